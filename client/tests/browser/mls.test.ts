import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { importSecret } from '../../src/e2ee/keys';
import { Openers } from '../../src/e2ee/opener';
import { readAnnouncement } from '../../src/e2ee/options';
import type { ServerEvents } from '../../src/sdk/protocol';
import { openHarness } from './support/chromium';
import { ownAddress } from './support/firefox';
import { type Look, look, playsDecrypted, type Tab, watchFirstPicture } from './support/meeting';
import { TestServer } from './support/server';
import { tabsOfTests } from './support/tabs';
import { newRoom } from './support/talk';
import { isProof } from './support/timing';
import { until } from './support/wait';

/** An epoch's secret, as the page gives it to its worker. */
interface Given {
  tag: number;
  bytes: number[];
}

let server: TestServer;
const tabs = tabsOfTests();

beforeAll(async () => {
  server = await TestServer.start({ name: 'mls', mediaIp: ownAddress() });
});

afterAll(async () => {
  await server?.stop();
});

/** Nobody has anything but the address. */
function address(name: string, room: string): string {
  return `${server.httpUrl}/?room=${room}&name=${name}&autojoin=1&height=180&fps=8#e2ee=mls`;
}

/** Runs in the page: keeps what the worker is given. */
function keepSecrets() {
  const given: Given[] = [];
  Object.assign(window, { given });
  window.Worker = class extends Worker {
    override postMessage(message: unknown, ...rest: unknown[]) {
      const { type, secret } = message as { type: string; secret?: { bytes: Uint8Array } & Given };
      if (type === 'secret' && secret) given.push({ tag: secret.tag, bytes: [...secret.bytes] });
      super.postMessage(message, ...(rest as [Transferable[]]));
    }
  };
}

function enter(name: string, room: string): Promise<Page> {
  return tabs.open(address(name, room), keepSecrets, watchFirstPicture);
}

function secretsOf(page: Page): Promise<Given[]> {
  return page.evaluate(() => (window as unknown as { given: Given[] }).given);
}

/** The code of all of them, once it is one, with so many members. */
async function agree(tabs: readonly Tab[]): Promise<string> {
  const looks = await until(
    `one code for ${tabs.length}`,
    () => Promise.all(tabs.map((tab) => look(tab))),
    ([first, ...others]) =>
      first?.encryption.code != null &&
      first.encryption.members?.length === tabs.length &&
      others.every(({ encryption }) => encryption.code === first.encryption.code),
  );
  const code = looks[0]?.encryption.code ?? '';
  expect(code).toMatch(/^\d{5}( \d{5}){5}$/);
  return code;
}

/** Nothing that came was forged, or sealed by keys that are not the group's. */
function nothingIsForged({ counts }: Look): void {
  expect(counts?.dropped).toMatchObject({ malformed: 0, 'not-authentic': 0 });
}

test('three Chromium, in proofs a Firefox too, meet by a group; who leaves cannot follow', async () => {
  const room = newRoom();
  const ann = await enter('Ann', room);
  const ben = await enter('Ben', room);
  await playsDecrypted(ann, ['Ben']);
  const eve = await enter('Eve', room);
  const firefox = isProof ? await tabs.firefox() : undefined;
  const fay = await firefox?.openPage(address('Fay', room));
  const all = [ann, ben, eve, ...(fay ? [fay] : [])] as Tab[];
  const names = ['Ann', 'Ben', 'Eve', ...(fay ? ['Fay'] : [])];
  await Promise.all(all.map((tab, at) => playsDecrypted(tab, names.toSpliced(at, 1))));
  const code = await agree(all);
  await ann.click('.oc-encryption button');
  expect(await ann.textContent('.oc-code output')).toBe(code);
  for (const name of names) expect(await ann.textContent('.oc-code')).toContain(name);
  const { joinedAt, seenAt } = await eve.evaluate(() => window.times);
  console.info(`MLS: a late joiner's first picture after ${Math.round(seenAt - joinedAt)} ms`);
  for (const tab of all) nothingIsForged(await look(tab));

  // Ben keeps what he was given, and the server gives him all that comes after.
  const bens = await secretsOf(ben);
  const spy = await openHarness();
  await spy('open', 'spy', 'opencall', server.wsUrl, room, { recorded: true });
  await ben.close();
  const others = all.toSpliced(1, 1);
  expect(await agree(others)).not.toBe(code);
  await Promise.all([playsDecrypted(ann, ['Eve']), playsDecrypted(eve, ['Ann'])]);
  await cannotFollow(spy, bens, await secretsOf(ann), ann);
  await spy('closeAll');
  await fay?.close();
});

/** What Ann sends now is opened by the keys of now, and by none that Ben ever had. */
async function cannotFollow(
  spy: Awaited<ReturnType<typeof openHarness>>,
  bens: readonly Given[],
  anns: readonly Given[],
  ann: Page,
): Promise<void> {
  const participantId = (await ann.evaluate(() => window.__meeting?.participantId)) ?? '';
  const had = new Set(bens.map(({ bytes }) => bytes.join()));
  const now = anns.at(-1);
  expect(now && had.has(now.bytes.join())).toBe(false);
  const said = (await spy('said', 'spy')).filter(({ name }) => name === 'newProducer');
  const camera = said
    .map(({ data }) => data as ServerEvents['newProducer'])
    .find((one) => one.participantId === participantId && one.appData?.source === 'camera');
  const salt = readAnnouncement(camera?.appData);
  if (!camera || !salt) throw new Error('Ann announced no camera');
  const count = () => spy('recordedCount', 'spy', camera.producerId);
  const before = await count();
  await until('frames of now', count, (frames) => frames >= before + 20);
  const frames = (await spy('recordedFrames', 'spy', camera.producerId))
    .slice(-15)
    .map((text) => new Uint8Array(Buffer.from(text, 'base64')));
  expect(frames).toHaveLength(15);
  const openedBy = async (given: readonly Given[]) => {
    let opened = 0;
    for (const { tag, bytes } of given) {
      const secret = { kind: 'epoch', tag, bytes: Uint8Array.from(bytes) } as const;
      const openers = new Openers();
      openers.secrets.set(await importSecret(secret, 'any'), 0, tag);
      const opener = openers.of({ participantId, salt, source: 'camera' });
      for (const frame of frames) if ('frame' in (await opener.open('vp8', frame, 0))) opened += 1;
    }
    return opened;
  };
  expect(bens.length).toBeGreaterThan(0);
  expect(await openedBy(bens)).toBe(0);
  expect(await openedBy(anns)).toBeGreaterThan(0);
}

test('after a restart of the server all are in one group again', async () => {
  const room = newRoom();
  const [ann, ben] = [await enter('Ann', room), await enter('Ben', room)];
  await playsDecrypted(ann, ['Ben']);
  const before = await agree([ann, ben]);
  const { ports } = server;
  await server.kill();
  server = await TestServer.start({ name: 'mls', mediaIp: ownAddress(), ports });
  await until(
    'another group',
    () => look(ann),
    ({ encryption }) => encryption.code !== before,
  );
  await agree([ann, ben]);
  await playsDecrypted(ann, ['Ben']);
  await playsDecrypted(ben, ['Ann']);
  for (const tab of [ann, ben]) nothingIsForged(await look(tab));
});

test('a tab that was loaded again takes its own place', async () => {
  const room = newRoom();
  const [ann, ben] = [await enter('Ann', room), await enter('Ben', room)];
  await playsDecrypted(ann, ['Ben']);
  const before = await agree([ann, ben]);
  await ben.goto(address('Ben', room));
  await until(
    'another epoch',
    () => look(ann),
    ({ encryption }) => encryption.code !== before,
  );
  await agree([ann, ben]);
  await playsDecrypted(ann, ['Ben']);
  await playsDecrypted(ben, ['Ann']);
});
