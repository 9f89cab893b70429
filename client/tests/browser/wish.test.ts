import { AccessToken } from 'livekit-server-sdk';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { type CallWish, openWish } from './support/chromium';
import { get } from './support/request';
import { TestServer } from './support/server';
import { newRoom } from './support/talk';
import { until } from './support/wait';

const SECRET = '0123456789abcdefghijklmnopqrstuv';

let server: TestServer;
let call: CallWish;

beforeAll(async () => {
  server = await TestServer.start({ name: 'wish', flags: [`--auth-key=key=${SECRET}`] });
  call = await openWish();
});

afterAll(async () => {
  expect(await server?.stop(), 'exit status of the server').toBe(0);
});

function tokenFor(room: string, identity: string): Promise<string> {
  const token = new AccessToken('key', SECRET, { identity, name: identity });
  token.addGrant({ roomJoin: true, room });
  return token.toJwt();
}

/** Waits until one who watches has seen and heard more than before. */
async function plays(name: string): Promise<void> {
  const before = await call('shown', name);
  await until(
    `${name} plays`,
    () => call('shown', name),
    ({ frames, energy }) => frames >= before.frames + 15 && energy > before.energy,
  );
}

/** Waits until so many are in rooms. */
async function peers(count: number): Promise<void> {
  await until(
    `${count} in rooms`,
    async () => JSON.parse((await get(`${server.httpUrl}/healthz`)).body).peers,
    (peers) => peers === count,
  );
}

test('clients that others wrote publish by WHIP and play by WHEP', async () => {
  const room = newRoom();
  const token = await tokenFor(room, 'cam');
  const [whip, whep] = ['whip', 'whep'].map((way) => `${server.httpUrl}/${way}/${room}`) as [
    string,
    string,
  ];
  await call('publish', 'first', 'whipWhep', whip, token);
  await call('watch', 'medooze', 'whipWhep', whep, token);
  await call('watch', 'eyevinn', 'eyevinn', whep, token);
  await Promise.all([plays('medooze'), plays('eyevinn')]);
  // The WHEP client of whip-whep sends candidates without If-Match (RFC 9725 section 4.3.1), and
  // does without an answer to that.
  for (const fault of await call('faults')) expect(fault).toContain('status 428');

  await call('restartPublisher', 'first');
  await call('restartWatcher', 'medooze');
  await call('selectLayer', 'medooze', { mediaId: '1', spatialLayerId: 0, temporalLayerId: 0 });
  await call('selectLayer', 'medooze', undefined);
  await Promise.all([plays('medooze'), plays('eyevinn')]);

  // Another client takes the place of the first, for whom both stay where they are.
  await call('stop', 'first');
  await peers(2);
  await call('publish', 'second', 'eyevinn', whip, token);
  await Promise.all([plays('medooze'), plays('eyevinn')]);
  for (const name of ['second', 'medooze', 'eyevinn']) await call('stop', name);
  await peers(0);
  expect(await call('faults')).toEqual([]);
});

/** A request, and what a page reads of its answer: the status, and the fields that are there. */
type Row = [
  method: string,
  path: string,
  fields: string[],
  body: string,
  status: number,
  said: string[],
];

const SDP = 'application/sdp';
const FRAGMENT = 'application/trickle-ice-sdpfrag';
const CANDIDATE = 'a=ice-ufrag:abcd\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n';

test('pages of an allowed origin read each status and field, pages of others nothing', async () => {
  const room = newRoom();
  const bearer = `Bearer ${await tokenFor(room, 'cam')}`;
  const [sends, receives] = [await call('offer', 'sendonly'), await call('offer', 'recvonly')];
  const ask = (
    of: CallWish,
    [method, path, [type, condition], body]: Row,
    authorization = bearer,
  ) => {
    const headers = {
      ...(authorization && { authorization }),
      ...(type && { 'content-type': type }),
      ...(condition && { 'if-match': condition }),
    };
    return of('ask', server.httpUrl + path, { method, headers, ...(body && { body }) });
  };
  /** Asks all in turn, and gives back the last answer. */
  const askAll = async (rows: Row[]) => {
    let last: Awaited<ReturnType<typeof ask>>;
    for (const row of rows) {
      const [method, path, fields, body, status, said] = row;
      last = await ask(call, row);
      const what = `${method} ${path} ${fields} ${body.slice(0, 20)}: ${last?.body}`;
      expect(last?.status, what).toBe(status);
      expect(Object.keys(last?.headers ?? {}), what).toEqual(expect.arrayContaining(said));
      if (status < 400) continue;
      expect(last?.headers['content-type'], what).toBe('application/problem+json');
      expect(JSON.parse(last?.body ?? ''), what).toMatchObject({
        status,
        detail: expect.any(String),
      });
    }
    return last?.headers ?? {};
  };
  const [whip, whep] = [`/whip/${room}`, `/whep/${room}`];
  const begun = ['location', 'etag', 'accept-patch', 'content-type'];
  const publishing = await askAll([
    ['POST', whep, [SDP], receives, 404, []],
    ['POST', '/whip/elsewhere', [SDP], sends, 403, []],
    ['POST', whip, ['text/plain'], sends, 415, []],
    ['POST', whip, [SDP], 'nonsense', 400, []],
    ['POST', whip, [SDP], 'v'.repeat(70_000), 413, []],
    ['POST', whip, [SDP], receives, 422, []],
    ['POST', whip, [SDP], sends, 201, begun],
  ]);
  const camera = publishing.location ?? '';
  const watching = await askAll([
    ['PATCH', camera, [FRAGMENT], CANDIDATE, 428, []],
    ['PATCH', camera, [FRAGMENT, '"stale"'], CANDIDATE, 412, []],
    ['PATCH', camera, [SDP, '*'], CANDIDATE, 415, []],
    ['PATCH', camera, [FRAGMENT, publishing.etag ?? ''], CANDIDATE, 204, []],
    ['PATCH', camera, [FRAGMENT, '*'], CANDIDATE, 200, ['etag', 'content-type']],
    ['POST', `${whep}?source=moon`, [SDP], receives, 400, []],
    ['POST', `${whep}?participant=nobody`, [SDP], receives, 404, []],
    ['POST', whep, [SDP], sends, 422, []],
    ['POST', whep, [SDP], receives, 201, [...begun, 'link']],
  ]);
  const layers = /<(.*)>/.exec(watching.link ?? '')?.[1] ?? '';
  await askAll([
    ['POST', layers, ['application/json'], '{"mediaId": "0"}', 200, []],
    ['POST', layers, ['application/json'], '{"mediaId": "7"}', 400, []],
    ['POST', layers, [SDP], '{"mediaId": "0"}', 415, []],
    ['DELETE', layers, [], '', 200, []],
    ['DELETE', camera, [], '', 200, []],
    ['DELETE', camera, [], '', 404, []],
    // Who watches is somebody, who sends nothing.
    ['POST', whep, [SDP], receives, 409, ['retry-after']],
  ]);
  const post: Row = ['POST', whip, [SDP], sends, 401, []];
  expect(await ask(call, post, '')).toMatchObject({ status: 401 });
  // By this name the pages are of another origin, and their requests do not get through.
  const stranger = await openWish(inject('pagesUrl').replace('127.0.0.1', 'localhost'));
  expect(await ask(stranger, post)).toBeUndefined();
  expect(await ask(stranger, ['DELETE', watching.location ?? '', [], '', 0, []])).toBeUndefined();
  await peers(1);
  await askAll([['DELETE', watching.location ?? '', [], '', 200, []]]);
  await peers(0);
});
