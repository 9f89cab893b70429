import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  AccessToken,
  type AccessTokenOptions,
  TrackSource,
  type VideoGrant,
} from 'livekit-server-sdk';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TestServer } from '../browser/support/server';
import { type Dialect, Peer, Refused, type Source } from './peer';

const KEY = 'APItests';
const SECRET = '0123456789abcdefghijklmnopqrstuv';
const DIALECTS: Dialect[] = ['opencall', 'protoo (old)', 'protoo (new)'];
const SOURCES: Source[] = ['camera', 'microphone', 'screen_share', 'screen_share_audio'];

let server: TestServer;
let rooms = 0;

beforeAll(async () => {
  server = await TestServer.start({ name: 'tokens', flags: [`--auth-key=${KEY}=${SECRET}`] });
});

afterAll(async () => {
  await server.stop();
});

function newRoom(): string {
  rooms += 1;
  return `room-${rooms}`;
}

/** A token as an application mints it. */
function mint(
  room: string,
  identity: string | undefined,
  grant: Partial<VideoGrant> = {},
  options: AccessTokenOptions = {},
  secret = SECRET,
): Promise<string> {
  const token = new AccessToken(KEY, secret, { ...(identity ? { identity } : {}), ...options });
  token.addGrant({ roomJoin: true, room, ...grant });
  return token.toJwt();
}

async function enter(
  dialect: Dialect,
  room: string,
  identity: string,
  grant: Partial<VideoGrant> = {},
  options: AccessTokenOptions = {},
): Promise<Peer> {
  const token = await mint(room, identity, grant, options);
  const peer = await Peer.connect(server, dialect, { token });
  await peer.join();
  return peer;
}

/** How a token is refused; throws if it is not. */
async function refusal(
  token: string | undefined,
  options: { dialect?: Dialect; query?: Record<string, string>; at?: TestServer } = {},
): Promise<{ status: number; code: string }> {
  const { dialect = 'protoo (new)', query = {}, at = server } = options;
  try {
    await Peer.connect(at, dialect, { token, query });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    expect(error.body.reason.length).toBeGreaterThan(20);
    return { status: error.status, code: error.body.code };
  }
  throw new Error('it was let in');
}

describe.each(DIALECTS)('%s: tokens of livekit-server-sdk', (dialect) => {
  test('let their holders in, in the query and as a bearer, and everyone receives everyone', async () => {
    const room = newRoom();
    const ann = await enter(dialect, room, 'ann');
    const token = await mint(
      room,
      'ben',
      {},
      { metadata: '{}', attributes: { a: 'b' }, ttl: '10m' },
    );
    const ben = await Peer.connect(server, dialect, { token, bearer: true });
    expect(await ben.join()).toEqual(['ann']);
    for (const source of SOURCES) expect(await ann.produce(source)).toHaveProperty('data');
    await ben.event(dialect === 'opencall' ? 'newProducer' : 'newConsumer');
    await ann.leave();
    await ben.leave();
  });

  const publishing: [string, Partial<VideoGrant>, Source[]][] = [
    ['nothing said', {}, SOURCES],
    ['canPublish', { canPublish: true }, SOURCES],
    ['no canPublish', { canPublish: false }, []],
    ['only the camera', { canPublishSources: [TrackSource.CAMERA] }, ['camera']],
    ['only the microphone', { canPublishSources: [TrackSource.MICROPHONE] }, ['microphone']],
    ['only the screen', { canPublishSources: [TrackSource.SCREEN_SHARE] }, ['screen_share']],
    [
      'the screen and its sound',
      { canPublishSources: [TrackSource.SCREEN_SHARE, TrackSource.SCREEN_SHARE_AUDIO] },
      ['screen_share', 'screen_share_audio'],
    ],
    [
      'sources, but no canPublish',
      { canPublish: false, canPublishSources: [TrackSource.CAMERA] },
      [],
    ],
    ['hidden', { hidden: true }, []],
    ['recorder', { recorder: true }, []],
  ];
  test.each(publishing)('%s: what may be sent', async (_, grant, allowed) => {
    const peer = await enter(dialect, newRoom(), 'ann', grant);
    for (const source of SOURCES) {
      const answer = await peer.produce(source);
      if (allowed.includes(source)) {
        expect(answer).toHaveProperty('data');
        continue;
      }
      expect(answer.reason).toMatch(/canPublish|hidden/);
      if (dialect !== 'opencall') expect(answer.code).toBe(403);
    }
    await peer.leave();
  });

  test('without canSubscribe nothing is received', async () => {
    const room = newRoom();
    const ann = await enter(dialect, room, 'ann');
    await ann.produce('camera');
    const deaf = await enter(dialect, room, 'deaf', { canSubscribe: false });
    const { data } = await ann.produce('microphone');
    if (dialect === 'opencall') {
      const answer = await deaf.ask('consume', { producerId: data?.producerId });
      expect(answer.reason).toContain('canSubscribe');
    }
    // Answers come in order: what was not offered before this one is not offered.
    await deaf.ask('getStats', {});
    expect(deaf.heard('newProducer')).toEqual([]);
    expect(deaf.heard('newConsumer')).toEqual([]);
    await ann.leave();
    await deaf.leave();
  });

  test('hidden: nobody is told', async () => {
    const room = newRoom();
    const ann = await enter(dialect, room, 'ann');
    await ann.produce('camera');
    const ghost = await enter(dialect, room, 'ghost', { hidden: true });
    await ghost.event(dialect === 'opencall' ? 'newProducer' : 'newConsumer');
    const ben = await Peer.connect(server, dialect, { token: await mint(room, 'ben') });
    expect(await ben.join()).toEqual(['ann']);
    await ghost.leave();
    await ben.leave();
    await ann.event(dialect === 'opencall' ? 'participantLeft' : 'peerClosed');
    const told = ['newParticipant', 'participantLeft', 'newPeer', 'peerClosed'].flatMap((name) =>
      ann.heard(name),
    );
    const ids = told.map(({ participantId, peerId }) => participantId ?? peerId);
    expect(new Set(ids)).toEqual(new Set(['ben']));
    await ann.leave();
  });

  test('the name of the token is the one that others see', async () => {
    const room = newRoom();
    const ann = await enter(dialect, room, 'ann');
    const ben = await enter(dialect, room, 'ben', {}, { name: 'Dr Ben' });
    const came = await ann.event(dialect === 'opencall' ? 'newParticipant' : 'newPeer');
    expect(came.displayName).toBe('Dr Ben');
    if (dialect !== 'opencall') {
      const refused = await ben.ask('changeDisplayName', { displayName: 'The Boss' });
      expect(refused).toMatchObject({
        code: 403,
        reason: expect.stringContaining('canUpdateOwnMetadata'),
      });
    }
    await ann.leave();
    await ben.leave();
  });

  test('the same identity takes the place of its older session', async () => {
    const room = newRoom();
    const old = await enter(dialect, room, 'ann');
    const closed = old.closed();
    const again = await enter(dialect, room, 'ann');
    expect(await closed).toBe(4000);
    await again.leave();
  });

  test('other ids than those of the token are refused', async () => {
    const room = newRoom();
    const token = await mint(room, 'ann');
    if (dialect === 'opencall') {
      const ann = await Peer.connect(server, dialect, { token });
      for (const ids of [{ meetingId: 'other' }, { participantId: 'ben' }]) {
        const { reason } = await ann.ask('createTransport', { direction: 'send', ...ids });
        expect(reason).toMatch(/the token is for/);
      }
      await ann.leave();
      return;
    }
    const wrongRoom = await refusal(token, { dialect, query: { roomId: 'other', peerId: 'ann' } });
    expect(wrongRoom).toEqual({ status: 403, code: 'wrong_room' });
    const wrongIdentity = await refusal(token, { dialect, query: { roomId: room, peerId: 'ben' } });
    expect(wrongIdentity).toEqual({ status: 403, code: 'wrong_identity' });
  });

  test('what is wrong with a token is said when it is refused', async () => {
    const expired = await mint('r', 'ann', {}, { ttl: -61 });
    const stranger = await mint('r', 'ann', {}, {}, `another-${SECRET}`);
    const otherKey = new AccessToken('APIother', SECRET, { identity: 'ann' });
    otherKey.addGrant({ roomJoin: true, room: 'r' });
    const cases: [string | undefined, number, string][] = [
      [undefined, 401, 'missing_token'],
      ['', 401, 'missing_token'],
      ['nonsense', 401, 'malformed_token'],
      [expired, 401, 'expired'],
      [stranger, 401, 'bad_signature'],
      [await otherKey.toJwt(), 401, 'unknown_key'],
      [await mint('r', 'ann', { roomJoin: false }), 403, 'no_join_grant'],
      [await mint('', 'ann'), 403, 'no_room'],
    ];
    for (const [token, status, code] of cases) {
      expect(await refusal(token, { dialect })).toEqual({ status, code });
    }
  });
});

/** A JWT of any make. */
function forge(header: object, claims: object, signature: (message: string) => Buffer): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const message = `${part(header)}.${part(claims)}`;
  return `${message}.${signature(message).toString('base64url')}`;
}

const claims = (issuer = KEY) => ({
  iss: issuer,
  sub: 'ann',
  exp: Math.floor(Date.now() / 1000) + 600,
  video: { roomJoin: true, room: 'r' },
});

const hmac = (secret: string | Buffer) => (message: string) =>
  createHmac('sha256', secret).update(message).digest();

describe('keys of a JWK Set', () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk = (key: KeyObject, kid: string, alg: string) => ({
    ...key.export({ format: 'jwk' }),
    kid,
    alg,
    use: 'sig',
  });
  const rs256 = (key: KeyObject) => (message: string) => sign('sha256', Buffer.from(message), key);
  const es256 = (key: KeyObject) => (message: string) =>
    sign('sha256', Buffer.from(message), { key, dsaEncoding: 'ieee-p1363' });
  const folder = mkdtempSync(join(tmpdir(), 'opencall-jwks-'));
  let both: TestServer;

  beforeAll(async () => {
    const keys = [jwk(rsa.publicKey, 'rsa', 'RS256'), jwk(ec.publicKey, 'ec', 'ES256')];
    writeFileSync(join(folder, 'jwks.json'), JSON.stringify({ keys }));
    const flags = [`--auth-key=${KEY}=${SECRET}`, `--auth-jwks-file=${join(folder, 'jwks.json')}`];
    both = await TestServer.start({ name: 'tokens-jwks', flags });
  });

  afterAll(async () => {
    await both.stop();
    rmSync(folder, { recursive: true });
  });

  test('let in who holds a token of their own kind', async () => {
    const issuer = 'https://id.example';
    const tokens = [
      forge({ alg: 'RS256', kid: 'rsa' }, claims(issuer), rs256(rsa.privateKey)),
      forge({ alg: 'ES256', kid: 'ec' }, claims(issuer), es256(ec.privateKey)),
      forge({ alg: 'HS256' }, claims(), hmac(SECRET)),
    ];
    for (const token of tokens) {
      const peer = await Peer.connect(both, 'opencall', { token });
      await peer.join();
      await peer.leave();
    }
  });

  test('are never taken for secrets, nor secrets for keys', async () => {
    const pem = rsa.publicKey.export({ format: 'pem', type: 'spki' });
    const der = rsa.publicKey.export({ format: 'der', type: 'spki' });
    const none = () => Buffer.alloc(0);
    const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    const cases: [string, string][] = [
      [forge({ alg: 'none' }, claims(), none), 'wrong_algorithm'],
      [forge({ alg: 'None' }, claims(), hmac(SECRET)), 'wrong_algorithm'],
      [forge({ alg: 'HS512' }, claims(), hmac(SECRET)), 'wrong_algorithm'],
      [forge({ alg: 'HS256' }, claims(), none), 'bad_signature'],
      [forge({ alg: 'HS256', kid: 'rsa' }, claims(), hmac(pem as string)), 'bad_signature'],
      [forge({ alg: 'HS256', kid: 'rsa' }, claims(), hmac(der as Buffer)), 'bad_signature'],
      [forge({ alg: 'HS256', kid: 'rsa' }, claims('rsa'), hmac(pem as string)), 'unknown_key'],
      [forge({ alg: 'RS256', kid: 'rsa' }, claims(), hmac(SECRET)), 'bad_signature'],
      [forge({ alg: 'RS256', kid: 'ec' }, claims(), rs256(rsa.privateKey)), 'wrong_algorithm'],
      [forge({ alg: 'ES256', kid: 'rsa' }, claims(), es256(ec.privateKey)), 'wrong_algorithm'],
      [forge({ alg: 'RS256', kid: 'rsa' }, claims(), rs256(stranger)), 'bad_signature'],
      [forge({ alg: 'RS256', kid: 'new' }, claims(), rs256(rsa.privateKey)), 'unknown_key'],
    ];
    for (const [token, code] of cases) {
      expect(await refusal(token, { at: both })).toEqual({ status: 401, code });
    }
  });
});

test('without keys the server is open, and says so', async () => {
  const open = await TestServer.start({ name: 'tokens-open' });
  try {
    const said = await (await fetch(`${open.httpUrl}/v1/server`)).json();
    expect(said).toMatchObject({ auth: 'open', version: expect.any(String) });
    const query = { roomId: 'r', peerId: 'p' };
    const peer = await Peer.connect(open, 'protoo (old)', { query });
    expect(await peer.join()).toEqual([]);
    await peer.leave();
  } finally {
    await open.stop();
  }
  expect(await (await fetch(`${server.httpUrl}/v1/server`)).json()).toMatchObject({
    auth: 'tokens',
  });
});
