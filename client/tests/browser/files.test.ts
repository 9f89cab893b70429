import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newLinkKey } from '../../src/e2ee/keys';
import { CuttableLink } from './support/cuttable';
import { launchFirefox, ownAddress } from './support/firefox';
import { isJoined, type Tab } from './support/meeting';
import { TestServer } from './support/server';
import { tabsOfTests } from './support/tabs';
import { newRoom } from './support/talk';
import { isProof } from './support/timing';
import { until } from './support/wait';

/** Bytes of the files: odd, so that the last chunk is shorter. */
const SIZE = (isProof ? 200 : 20) * 1_048_576 + 12_345;
const PAGE_SIZE = (isProof ? 50 : 5) * 1_048_576 + 12_345;
const RESTARTED_SIZE = (isProof ? 200 : 5) * 1_048_576 + 12_345;

/** So much comes while the WebSocket is away. */
const WHILE_AWAY_BYTES = 1_048_576;

let server: TestServer;
let link: CuttableLink;
const tabs = tabsOfTests();

beforeAll(async () => {
  server = await TestServer.start({ name: 'files' });
  link = await CuttableLink.start(server);
});

afterAll(async () => {
  link?.cut();
  await server?.stop();
});

async function enter(
  url: string,
  name: string,
  room: string,
  fragment: string,
  microphone = 0,
): Promise<Page> {
  const settings = `autojoin=1&camera=0&microphone=${microphone}`;
  const page = await tabs.open(`${url}/?room=${room}&name=${name}&${settings}${fragment}`);
  await isJoined(page);
  return page;
}

/** Offers a file of random bytes; its SHA-256. */
const offer = (page: Page, size: number) =>
  page.evaluate(async (size) => {
    const bytes = new Uint8Array(size);
    for (let at = 0; at < size; at += 65_536) {
      crypto.getRandomValues(bytes.subarray(at, Math.min(size, at + 65_536)));
    }
    const file = new File([bytes], 'holiday.mp4', { type: 'video/mp4' });
    const digest = await crypto.subtle.digest('SHA-256', bytes);
    await window.__meeting?.sendFile(file);
    return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  }, size);

const files = (page: Page) => page.evaluate(() => window.__meeting?.snapshot.files ?? []);

const only = async (page: Page) => (await files(page))[0];

const accept = (page: Page) =>
  page.evaluate(() => {
    const meeting = window.__meeting;
    const [file] = meeting?.snapshot.files ?? [];
    return file && meeting?.acceptFile(file.id);
  });

const isOffered = (page: Page) =>
  until(
    'an offer',
    () => only(page),
    (file) => file?.state === 'offered',
  );

/** How much has come, once it is so much. */
async function hasCome(page: Page, bytes: number): Promise<number> {
  const file = await until(
    `${bytes} bytes of a file`,
    () => only(page),
    (file) => (file?.transferred ?? 0) >= bytes,
  );
  return file?.transferred ?? 0;
}

const isDone = (page: Page) =>
  until(
    'all of a file',
    () => only(page),
    (file) => file?.state === 'done',
  );

/** SHA-256 of what has come, as it is saved. */
async function digestOf(page: Page, save = () => page.evaluate(saveFirst)): Promise<string> {
  const downloading = page.waitForEvent('download');
  await save();
  const download = await downloading;
  expect(download.suggestedFilename()).toBe('holiday.mp4');
  const hash = createHash('sha256');
  for await (const part of await download.createReadStream()) hash.update(part);
  return hash.digest('hex');
}

/** Runs in the page. */
function saveFirst() {
  const [file] = window.__meeting?.snapshot.files ?? [];
  const link = document.createElement('a');
  link.href = file?.url ?? '';
  link.download = file?.name ?? '';
  link.click();
}

const KINDS: [string, () => string][] = [
  ['encrypted', () => `#k=${newLinkKey()}`],
  ['in the clear', () => ''],
];

test.each(isProof ? KINDS : KINDS.slice(0, 1))(
  '%s: a file goes on while the WebSocket is away, and through an ICE restart',
  async (kind, makeFragment) => {
    const [room, fragment] = [newRoom(), makeFragment()];
    const ann = await enter(server.httpUrl, 'Ann', room, fragment, 1);
    const ben = await enter(link.httpUrl, 'Ben', room, fragment, 1);
    const digest = await offer(ann, SIZE);
    await isOffered(ben);
    const begun = Date.now();
    await accept(ben);
    const before = await hasCome(ben, SIZE / 10);
    link.cut();
    // Shorter than sessions are kept.
    const meanwhile = await hasCome(ben, before + WHILE_AWAY_BYTES);
    await link.restore();
    await isJoined(ben);
    // Another path, for both directions of both.
    await hasCome(ben, Math.min(SIZE, meanwhile + 1));
    for (const page of [ann, ben]) await page.evaluate(() => window.__meeting?.restartIce());
    const file = await isDone(ben);
    const mbits = ((SIZE * 8) / (Date.now() - begun) / 1_000).toFixed(0);
    console.info(`a file of ${(SIZE / 1e6).toFixed(0)} MB, ${kind}: ${mbits} Mbit/s`);
    expect(file).toMatchObject({ name: 'holiday.mp4', size: SIZE, transferred: SIZE, mine: false });
    expect(await digestOf(ben)).toBe(digest);
    await isDone(ann);
    await isJoined(ben);
  },
);

test('by the buttons of the page: a file, and what is written meanwhile, while the page says that it reconnects', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'opencall-files-'));
  try {
    const bytes = randomBytes(PAGE_SIZE);
    await writeFile(join(folder, 'holiday.mp4'), bytes);
    const digest = createHash('sha256').update(bytes).digest('hex');
    const [room, fragment] = [newRoom(), `#k=${newLinkKey()}`];
    const ann = await enter(server.httpUrl, 'Ann', room, fragment);
    const ben = await enter(link.httpUrl, 'Ben', room, fragment);
    for (const page of [ann, ben]) await page.click('[data-control="chat"]');
    await ann.setInputFiles('input[name="file"]', join(folder, 'holiday.mp4'));
    await ben.getByRole('button', { name: 'Get holiday.mp4' }).click();
    await ben.getByRole('progressbar', { name: 'holiday.mp4' }).waitFor();
    link.cut();
    await ben.waitForSelector('.oc-meeting[data-status="reconnecting"]');
    const say = async (page: Page, text: string) => {
      await page.fill('textarea[name="chat"]', text);
      await page.press('textarea[name="chat"]', 'Enter');
    };
    await say(ann, 'is it coming?');
    await say(ben, 'I am away');
    await link.restore();
    await isJoined(ben);
    for (const page of [ann, ben]) {
      for (const text of ['is it coming?', 'I am away']) {
        await page.locator('.oc-message', { hasText: text }).waitFor();
      }
      expect(await page.locator('.oc-message').count()).toBe(2);
    }
    const saving = ben.getByRole('link', { name: 'Save holiday.mp4' });
    await saving.waitFor();
    expect(await digestOf(ben, () => saving.click())).toBe(digest);
    await ann.waitForSelector('.oc-file[data-state="done"]');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test('a file goes on after the server was restarted, to two who take it at different times', async () => {
  const [room, fragment] = [newRoom(), `#k=${newLinkKey()}`];
  const ann = await enter(server.httpUrl, 'Ann', room, fragment);
  const ben = await enter(server.httpUrl, 'Ben', room, fragment);
  const cid = await enter(server.httpUrl, 'Cid', room, fragment);
  const digest = await offer(ann, RESTARTED_SIZE);
  await Promise.all([isOffered(ben), isOffered(cid)]);
  await accept(ben);
  await hasCome(ben, RESTARTED_SIZE / 10);
  await accept(cid);
  await hasCome(cid, RESTARTED_SIZE / 20);
  const { ports } = server;
  await server.kill();
  const before = await only(ben);
  server = await TestServer.start({ name: 'files', ports });
  for (const page of [ben, cid]) {
    await isDone(page);
    expect(await digestOf(page)).toBe(digest);
  }
  expect(before?.transferred).toBeLessThan(RESTARTED_SIZE);
});

test.runIf(isProof)(
  'Chromium and Firefox speak, and send each other files, encrypted',
  async () => {
    const own = await TestServer.start({ name: 'files-firefox', mediaIp: ownAddress() });
    const firefox = await launchFirefox();
    try {
      const [room, fragment] = [newRoom(), `#k=${newLinkKey()}`];
      const ann = await enter(own.httpUrl, 'Ann', room, fragment);
      const settings = 'autojoin=1&camera=0&microphone=0';
      const address = `${own.httpUrl}/?room=${room}&name=Fay&${settings}${fragment}`;
      const fay = await firefox.openPage(address);
      const tabs: Tab[] = [ann, fay];
      const each = <T>(inPage: () => T | Promise<T>) =>
        Promise.all(tabs.map((tab) => tab.evaluate(inPage)));
      const all = (what: string, inPage: () => boolean | Promise<boolean>) =>
        until(
          what,
          () => each(inPage),
          (answers) => answers.every(Boolean),
        );
      await all('joined', () => window.__meeting?.snapshot.participants.length === 2);
      await each(() => window.__meeting?.sendChat('hello'));
      await all('a greeting', () => window.__meeting?.snapshot.chat.length === 2);
      await each(async () => {
        const bytes = new Uint8Array(3_000_001).map((_, at) => (at * 31) >> 3);
        await window.__meeting?.sendFile(new File([bytes], 'a.bin'));
      });
      await all('an offer', () => {
        const files = window.__meeting?.snapshot.files.filter(({ mine }) => !mine) ?? [];
        for (const { id } of files) void window.__meeting?.acceptFile(id);
        return files.length === 1;
      });
      // Whatever is done has the hash of what was offered.
      await all('a file each way', () =>
        Boolean(window.__meeting?.snapshot.files.every(({ state }) => state === 'done')),
      );
    } finally {
      await firefox.close();
      await own.stop();
    }
  },
);
