import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Bytes } from '../../src/e2ee/bytes';
import type { SealableCodec } from '../../src/e2ee/codecs';
import { parseFrame } from '../../src/e2ee/envelope';
import {
  baseKey,
  importSecret,
  newLinkKey,
  type Stream,
  secretOfLinkKey,
  secretOfPassphrase,
} from '../../src/e2ee/keys';
import { Openers } from '../../src/e2ee/opener';
import { readAnnouncement } from '../../src/e2ee/options';
import type { ServerEvents } from '../../src/sdk/protocol';
import { toHex } from '../unit/e2ee/hex';
import { openHarness } from './support/chromium';
import { ownAddress } from './support/firefox';
import {
  type Look,
  look,
  playsDecrypted,
  seen,
  type Tab,
  watchFirstPicture,
} from './support/meeting';
import { TestServer } from './support/server';
import { tabsOfTests } from './support/tabs';
import { newRoom } from './support/talk';
import { cases, holds, isProof } from './support/timing';
import { until } from './support/wait';

const out = join(import.meta.dirname, 'out');

/** Until whoever comes late sees the first picture: what people take for "at once". */
const FIRST_PICTURE_MS = 1000;

/** Of each codec, for another implementation to open: see `scripts/prove e2ee`. */
const RECORDED_FRAMES = 1_000;

let server: TestServer;
const tabs = tabsOfTests();

beforeAll(async () => {
  server = await TestServer.start({ name: 'e2ee', mediaIp: ownAddress() });
});

afterAll(async () => {
  await server?.stop();
});

/** Small pictures: one machine is everyone. */
function address(name: string, room: string, fragment: string, query = ''): string {
  const settings = 'autojoin=1&height=360&fps=15';
  return `${server.httpUrl}/?room=${room}&name=${name}&${settings}${query}${fragment}`;
}

async function enter(
  name: string,
  room: string,
  fragment: string,
  query = '',
  ...prepare: (() => void)[]
): Promise<Page> {
  return tabs.open(address(name, room, fragment, query), ...prepare);
}

/** Every frame could be opened. A frame that the network brought twice is opened once. */
function opensAll({ counts }: Look): void {
  const none = { 'no-key': 0, malformed: 0, 'not-authentic': 0, 'old-key': 0 };
  expect(counts?.dropped).toMatchObject(none);
  expect(counts?.dropped.replayed).toBeLessThan((counts?.opened ?? 0) / 100);
}

/** What the two Chromium send; Firefox sends VP8, and receives all but H.264, for which it would fetch a library. */
const MEETINGS: [codec: string, seenByFirefox: boolean][] = isProof
  ? [
      ['VP8', true],
      ['VP9', true],
      ['AV1', true],
      ['H264', false],
    ]
  : [['VP8', true]];

/** A minute of them in a proof. */
const [ROTATION_S, ROTATIONS] = isProof ? [5, 12] : [1, 3];

test.each(MEETINGS)(
  '%s: two Chromium and a Firefox meet encrypted, over rotations, a join and a leave',
  async (codec, seenByFirefox) => {
    const room = newRoom();
    const key = `#k=${newLinkKey()}`;
    const query = (codec: string) => `&codec=${codec}&rotate=${ROTATION_S}`;
    const firefox = await tabs.firefox();
    const ann = await enter('Ann', room, key, query(codec));
    const fay = await firefox.openPage(address('Fay', room, key, query('VP8')));
    const fayPlays = (names: string[]) => playsDecrypted(fay, names, seenByFirefox ? 15 : 0);
    await playsDecrypted(ann, ['Fay']);
    await fayPlays(['Ann']);
    const ben = await enter('Ben', room, key, query(codec), watchFirstPicture);
    const all = async () => {
      await playsDecrypted(ann, ['Ben', 'Fay']);
      await playsDecrypted(ben, ['Ann', 'Fay']);
      await fayPlays(['Ann', 'Ben']);
    };
    await all();
    const { joinedAt, seenAt } = await ben.evaluate(() => window.times);
    for (let rotation = 0; rotation < ROTATIONS; rotation += 1) {
      const { epoch } = (await look(ann)).counts ?? { epoch: 0 };
      await until(
        'another key',
        async () => (await look(ann)).counts?.epoch ?? 0,
        (now) => now > epoch,
      );
      await playsDecrypted(ben, ['Ann'], 3);
    }
    await all();

    const codes = async () => {
      const looks = await Promise.all([ann, ben, fay].map((tab) => look(tab as Tab)));
      return looks.map(({ encryption }) => encryption.code);
    };
    const [code] = await until('one code', codes, ([first, ...others]) =>
      others.every((other) => first && other === first),
    );
    expect(code).toMatch(/^\d{5}( \d{5}){5}$/);
    await ann.click('.oc-encryption button');
    expect(await ann.textContent('.oc-code output')).toBe(code);
    await ann.screenshot({ path: join(out, 'encrypted.png') });

    for (const tab of [ann, ben, fay]) opensAll(await look(tab as Tab));
    await ben.close();
    await until(
      'Ben is gone',
      () => look(ann),
      (now) => now.others.length === 1,
    );
    await playsDecrypted(ann, ['Fay']);
    await fayPlays(['Ann']);
    for (const tab of [ann, fay]) opensAll(await look(tab as Tab));
    await fay.close();
    const what = `${codec}: a late joiner's first picture, encrypted, ms`;
    holds(what, seenAt - joinedAt, FIRST_PICTURE_MS);
  },
);

/** Chooses the layer in which this tab receives someone. */
async function takeLayer(page: Page, name: string, layer: number): Promise<void> {
  await page.evaluate(
    async ([name, spatialLayer]) => {
      const meeting = window.__meeting;
      const sender = meeting?.snapshot.participants.find(({ displayName }) => displayName === name);
      await meeting?.setPreferredLayers(sender?.id ?? '', 'camera', { spatialLayer });
    },
    [name, layer] as const,
  );
}

const SEALED: [codec: string, sealable: SealableCodec, prefixes: number[] | undefined][] = [
  ['VP8', 'vp8', [1, 10]],
  ['H264', 'h264', undefined],
  ['VP9', 'vp9', [0]],
  ['AV1', 'av1', undefined],
];

describe.each(cases(SEALED, 2))('%s', (codec, sealable, prefixes) => {
  test('plays in layers to who has the key; to who has not it is ciphertext', async () => {
    const room = newRoom();
    const linkKey = newLinkKey();
    const query = `&codec=${codec}`;
    // A participant with the server's own view: it takes what comes, as it comes, from the first frame on.
    const spy = await openHarness();
    await spy('open', 'spy', 'opencall', server.wsUrl, room, { recorded: true });
    const ann = await enter('Ann', room, `#k=${linkKey}`, query, largeCamera);
    const ben = await enter('Ben', room, `#k=${linkKey}`, `${query}&camera=0&microphone=0`);
    await playsDecrypted(ben, ['Ann']);
    const switches = isProof ? 20 : 4;
    for (let layer = 0; layer < switches; layer += 1) {
      await takeLayer(ben, 'Ann', layer % 2);
      const width = 240 * 2 ** (layer % 2);
      await until(
        `a picture ${width} wide`,
        () => look(ben),
        (now) => seen(now, 'Ann')?.frameWidth === width,
      );
      await playsDecrypted(ben, ['Ann'], 5);
    }
    opensAll(await look(ben));

    const participantId = (await ann.evaluate(() => window.__meeting?.participantId)) ?? '';
    const producers = (await spy('said', 'spy'))
      .filter(({ name }) => name === 'newProducer')
      .map(({ data }) => data as ServerEvents['newProducer']);
    for (const { producerId, appData } of producers) {
      const source = String(appData?.source);
      const steps = isProof ? RECORDED_FRAMES / 50 : 1;
      for (let step = 1; step <= steps; step += 1) {
        await until(
          `${step * 50} frames of the ${source}`,
          () => spy('recordedCount', 'spy', producerId),
          (count) => count >= step * 50,
        );
      }
      const salt = readAnnouncement(appData);
      if (!salt) throw new Error('announced without a salt');
      const frames = (await spy('recordedFrames', 'spy', producerId)).map(
        (text) => new Uint8Array(Buffer.from(text, 'base64')),
      );
      const stream = { participantId, source, salt };
      const name = source === 'camera' ? sealable : 'opus';
      await isCiphertext(frames, name, stream, linkKey);
      await writeFrames(`frames-${name}.txt`, frames, name, stream, linkKey);
      const clear = frames.map((frame) => ((frame.at(-2) ?? 0) << 8) | (frame.at(-1) ?? 0));
      if (name === 'opus') expect(new Set(clear)).toEqual(new Set([0]));
      else if (prefixes) expect(prefixes).toEqual(expect.arrayContaining([...new Set(clear)]));
      // Parameter sets, sequence header, headers: nothing of a picture.
      else expect(Math.max(...clear)).toBeLessThan(64);
    }
    const camera = (await spy('received', 'spy')).find(({ kind }) => kind === 'video');
    console.info(`without the key: ${camera?.framesDecoded} of ${camera?.framesReceived} frames`);
    expect(camera?.framesReceived).toBeGreaterThan(0);
    // Where headers are in the clear, decoders make pictures of some of the noise; of AV1 rarely.
    if (codec === 'VP9') expect(camera?.framesDecoded).toBe(0);
    await spy('closeAll');
  });
});

/** Whether the key opens each of these frames: all of a frame but its prefix is sealed then. */
async function isCiphertext(
  frames: Bytes[],
  codec: SealableCodec,
  stream: Stream,
  linkKey: string,
): Promise<void> {
  const openerWith = async (key: string) => {
    const openers = new Openers();
    const secret = secretOfLinkKey(key);
    openers.secrets.set(secret && (await importSecret(secret, 'any')), 0);
    return openers.of(stream);
  };
  const [right, wrong] = [await openerWith(linkKey), await openerWith(newLinkKey())];
  // Who asks for a key frame again gets the last one again.
  const distinct = new Map(frames.map((frame) => [toHex(frame), frame]));
  for (const [at, frame] of [...distinct.values()].entries()) {
    expect(await right.open(codec, frame, 0), `frame ${at}`).toHaveProperty('frame');
    expect(await wrong.open(codec, frame, 0)).toEqual({ drop: 'not-authentic' });
  }
}

/** For `tests/interop/sframe.test.ts`: each frame, the base key of its KID, and what our own code makes of it. */
async function writeFrames(
  name: string,
  frames: Bytes[],
  codec: SealableCodec,
  stream: Stream,
  linkKey: string,
): Promise<void> {
  const secret = secretOfLinkKey(linkKey);
  if (!secret) throw new Error('unreachable: it is a new key');
  const imported = await importSecret(secret, 'any');
  const keys = new Map<bigint, string>();
  const lines: string[] = [];
  for (const frame of frames) {
    const kid = parseFrame(codec, frame)?.header.kid ?? 0n;
    const key = keys.get(kid) ?? toHex(await baseKey(imported, stream, kid));
    keys.set(kid, key);
    lines.push(`open ${codec} ${key} ${toHex(frame)}`);
  }
  await writeFile(join(out, name), `${lines.join('\n')}\n`);
}

test('a wrong key, no key and no encryption are shown, and nothing of them is played', async () => {
  const room = newRoom();
  const key = newLinkKey();
  const ann = await enter('Ann', room, `#k=${key}`);
  const ben = await enter('Ben', room, `#k=${key}`);
  const wil = await enter('Wil', room, `#k=${newLinkKey()}`);
  const nat = await enter('Nat', room, '');
  const states = async (tab: Tab, expected: Record<string, string>) => {
    const now = await until(
      JSON.stringify(expected),
      () => look(tab),
      (now) =>
        Object.entries(expected).every(([name, state]) => seen(now, name)?.encryption === state),
    );
    for (const other of now.others.filter(({ encryption }) => encryption !== 'encrypted')) {
      expect(other).toMatchObject({ framesDecoded: 0, energy: 0 });
    }
  };
  await states(ann, { Ben: 'encrypted', Wil: 'wrong-key', Nat: 'not-encrypted' });
  await states(wil, { Ann: 'wrong-key', Ben: 'wrong-key', Nat: 'not-encrypted' });
  await states(nat, { Ann: 'waiting-for-key', Ben: 'waiting-for-key', Wil: 'waiting-for-key' });
  await playsDecrypted(ann, ['Ben']);
  // Still silent after all that.
  await states(wil, { Ann: 'wrong-key', Ben: 'wrong-key' });
  await states(nat, { Ann: 'waiting-for-key' });
  for (const { packetsReceived } of (await look(nat)).others) expect(packetsReceived).toBe(0);
  const codes = (await Promise.all([ann, ben, wil].map((tab) => look(tab)))).map(
    ({ encryption }) => encryption.code,
  );
  expect(codes[2]).not.toBe(codes[0]);

  const says = (page: Page, name: string) =>
    page.textContent(`.oc-tile:has(.oc-name span:text-is("${name}")) .oc-lock`);
  expect(await says(ann, 'Wil')).toBe('Wrong key');
  expect(await says(ann, 'Nat')).toBe('Not encrypted');
  expect(await says(nat, 'Ann')).toBe('Waiting for key');
  await ann.getByText('Wil is encrypted with another key than yours').waitFor();
  await ann.screenshot({ path: join(out, 'encryption-states.png') });
  await nat.screenshot({ path: join(out, 'encryption-no-key.png') });
});

test('without a secret not a packet of media is sent; with it again, all is as before', async () => {
  const room = newRoom();
  const fragment = `#k=${newLinkKey()}`;
  const ann = await enter('Ann', room, fragment);
  const ben = await enter('Ben', room, fragment);
  await playsDecrypted(ann, ['Ben']);
  const secret = await ben.evaluateHandle(() => window.__meeting);
  await secret.evaluate((meeting) => meeting?.setEncryptionSecret(undefined));
  const notSealed = (frames: number) =>
    until(
      `${frames} frames that were not sealed`,
      () => look(ben),
      ({ counts }) => (counts?.notSealed ?? 0) >= frames,
    );
  // What was sealed before leaves within these.
  const before = await notSealed(20);
  const silent = await notSealed(100);
  expect(silent.counts?.sealed).toBe(before.counts?.sealed);
  expect(silent.mediaBytesSent - before.mediaBytesSent).toBe(0);
  expect(silent.encryption.state).toBe('waiting-for-key');
  await ben.getByText('Waiting for the key: until it is here').waitFor();
  await ben.screenshot({ path: join(out, 'encryption-waiting.png') });
  await ben.evaluate((key) => {
    const bytes = Uint8Array.from(atob(key.replaceAll('-', '+').replaceAll('_', '/')), (c) =>
      c.charCodeAt(0),
    );
    return window.__meeting?.setEncryptionSecret({ kind: 'key', bytes });
  }, fragment.slice(3));
  await playsDecrypted(ann, ['Ben']);
  await playsDecrypted(ben, ['Ann']);
});

test('whoever reloads, with the same passphrase, uses no key and counter twice', async () => {
  const room = newRoom();
  const spy = await openHarness();
  await spy('open', 'spy', 'opencall', server.wsUrl, room, { recorded: true });
  const ann = await tabs.blank();
  const join = async () => {
    await ann.fill('input[name="name"]', 'Ann');
    await ann.fill('input[name="passphrase"]', 'green light');
    await ann.click('button[type="submit"]');
    await ann.waitForSelector('[data-status="joined"]');
  };
  const producers = async () =>
    (await spy('said', 'spy'))
      .filter(({ name }) => name === 'newProducer')
      .map(({ data }) => data as ServerEvents['newProducer']);
  await ann.goto(`${server.httpUrl}/?room=${room}&height=360&fps=15#e2ee=passphrase`);
  for (let life = 1; life <= 3; life += 1) {
    await join();
    await until('camera and microphone', producers, ({ length }) => length === 2 * life);
    for (const { producerId } of (await producers()).slice(-2)) {
      await until(
        '30 frames',
        () => spy('recordedCount', 'spy', producerId),
        (count) => count >= 30,
      );
    }
    if (life < 3) await ann.reload();
  }

  const passphrase = secretOfPassphrase('green light');
  if (!passphrase) throw new Error('unreachable: it is not empty');
  const secret = await importSecret(passphrase, room);
  const used = new Map<string, string>();
  const salts = new Set<string>();
  for (const { producerId, participantId, appData } of await producers()) {
    const salt = readAnnouncement(appData);
    if (!salt) throw new Error('announced without a salt');
    salts.add(toHex(salt));
    const source = String(appData?.source);
    const codec = source === 'camera' ? 'vp8' : 'opus';
    for (const text of await spy('recordedFrames', 'spy', producerId)) {
      const frame = new Uint8Array(Buffer.from(text, 'base64'));
      const header = parseFrame(codec, frame)?.header;
      if (!header) throw new Error('a frame that is not ours');
      const key = await baseKey(secret, { participantId, salt, source }, header.kid);
      const once = `${toHex(key)} ${header.counter}`;
      // A key frame that was asked for again is the same frame.
      expect(used.get(once) ?? toHex(frame)).toBe(toHex(frame));
      used.set(once, toHex(frame));
    }
  }
  expect(salts.size).toBe(3);
  expect(used.size).toBeGreaterThanOrEqual(3 * 2 * 25);
  await spy('closeAll');
});

/** Runs in the page: lets the test end its workers. */
function keepWorkers() {
  const workers: Worker[] = [];
  Object.assign(window, { workers });
  window.Worker = class extends Worker {
    constructor(url: string | URL, options?: WorkerOptions) {
      super(url, options);
      workers.push(this);
    }
  };
}

test('when the worker dies not a packet more is sent, the page says so, and one can come back', async () => {
  const room = newRoom();
  const fragment = `#k=${newLinkKey()}`;
  const ann = await enter('Ann', room, fragment);
  const ben = await enter('Ben', room, fragment, '', keepWorkers);
  await playsDecrypted(ann, ['Ben']);
  await ben.evaluate(() => {
    for (const worker of (window as unknown as { workers: Worker[] }).workers) worker.terminate();
  });
  const sent = (await look(ben)).packetsSent;
  await until(
    'the page notices',
    async () => {
      const now = await look(ben);
      // Statistics end with the connection.
      if (now.status === 'joined') expect(now.packetsSent).toBe(sent);
      return now;
    },
    ({ status }) => status === 'failed',
  );
  await ben.waitForSelector('[role="alert"][data-error="encryption-failed"]');
  await ben.screenshot({ path: join(out, 'encryption-failed.png') });
  await until(
    'Ben is gone',
    () => look(ann),
    (now) => now.others.length === 0,
  );
  await ben.click('[role="alert"] button:has-text("Try again")');
  await playsDecrypted(ann, ['Ben']);
  await playsDecrypted(ben, ['Ann']);
});

test('the key is in the link that is copied, and in nothing that the page sends', async () => {
  const room = newRoom();
  const ann = await tabs.blank();
  await ann.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  const sent: string[] = [];
  ann.on('request', (request) => sent.push(request.url(), request.postData() ?? ''));
  ann.on('websocket', (socket) => {
    sent.push(socket.url());
    socket.on('framesent', ({ payload }) => sent.push(String(payload)));
  });
  await ann.goto(`${server.httpUrl}/?room=${room}&name=Ann&height=360&fps=15`);
  await ann.check('input[name="encrypt"]');
  await ann.screenshot({ path: join(out, 'lobby-encrypted.png') });
  await ann.click('button[type="submit"]');
  await ann.waitForSelector('[data-status="joined"]');
  const key = new URL(ann.url()).hash;
  expect(key).toMatch(/^#k=[A-Za-z0-9_-]{22}$/);
  await ann.getByText('Copy invite').click();
  const link = await ann.evaluate(() => navigator.clipboard.readText());
  expect(link).toBe(`${server.httpUrl}/?room=${room}${key}`);

  const ben = await tabs.blank();
  await ben.goto(link);
  expect(await ben.isChecked('input[name="encrypt"]')).toBe(true);
  await ben.fill('input[name="name"]', 'Ben');
  await ben.click('button[type="submit"]');
  await playsDecrypted(ben, ['Ann'], 5);
  await playsDecrypted(ann, ['Ben'], 5);
  // Whoever reloads has the key still.
  await ben.reload();
  await ben.click('button[type="submit"]');
  await playsDecrypted(ann, ['Ben'], 5);

  expect(sent.length).toBeGreaterThan(10);
  for (const text of sent) expect(text).not.toContain(key.slice(3));
  const log = await readFile(join(out, 'e2ee.server.log'), 'utf8');
  expect(log).not.toContain(key.slice(3));
});

test('a passphrase opens what the same passphrase closed, and is in no link', async () => {
  const room = newRoom();
  const enterLobby = async (name: string, address: string, passphrase: string) => {
    const page = await tabs.blank();
    await page.goto(address);
    await page.fill('input[name="name"]', name);
    await page.check('input[name="encrypt"]');
    await page.fill('input[name="passphrase"]', passphrase);
    await page.click('button[type="submit"]');
    await page.waitForSelector('[data-status="joined"]');
    return page;
  };
  const settings = 'height=360&fps=15';
  const ann = await enterLobby('Ann', `${server.httpUrl}/?room=${room}&${settings}`, 'green light');
  expect(ann.url()).toBe(`${server.httpUrl}/?room=${room}#e2ee=passphrase`);
  const ben = await enterLobby('Ben', ann.url(), ' green light');
  const wil = await enterLobby('Wil', ann.url(), 'Green light');
  await playsDecrypted(ann, ['Ben'], 5);
  await playsDecrypted(ben, ['Ann'], 5);
  await until(
    'Wil has another',
    () => look(wil),
    (now) => seen(now, 'Ann')?.encryption === 'wrong-key',
  );
});

/** Runs in the page: Chromium sends three layers only from 960×540 on, and invents no such camera unless asked so. */
function largeCamera() {
  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  const video = { width: 960, height: 540, frameRate: 10 };
  navigator.mediaDevices.getUserMedia = (wanted) => open(wanted?.video ? { video } : wanted);
}
