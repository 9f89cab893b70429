import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openPage } from './support/chromium';
import { look, seen } from './support/meeting';
import { TestServer } from './support/server';
import { CHROMIUM, CHROMIUM_SWITCHES } from './support/switches';
import { newRoom } from './support/talk';
import { ceilingMs, until } from './support/wait';

let server: TestServer;
let withoutUdp: Browser;

beforeAll(async () => {
  server = await TestServer.start({ name: 'ice-tcp', workers: 2, flags: ['--ice-tcp'] });
  // As behind a firewall: WebRTC's own switch for networks that let no UDP through.
  withoutUdp = await chromium.launch({
    executablePath: CHROMIUM,
    args: [...CHROMIUM_SWITCHES, '--webrtc-ip-handling-policy=disable_non_proxied_udp'],
    timeout: ceilingMs(),
  });
});

afterAll(async () => {
  await withoutUdp?.close();
  await server?.stop();
});

async function enter(page: Page, name: string, room: string): Promise<Page> {
  page.setDefaultTimeout(ceilingMs());
  const settings = 'autojoin=1&height=360&fps=15';
  await page.goto(`${server.httpUrl}/?room=${room}&name=${name}&${settings}`);
  await page.waitForSelector('[data-status="joined"]');
  return page;
}

/** What the chosen paths of a page go over, sending and receiving. */
const protocols = (page: Page) =>
  page.evaluate(async () => {
    type Stats = Record<string, string | undefined>;
    const { send = [], recv = [] } = ((await window.__meeting?.stats()) ?? {}) as {
      send?: Stats[];
      recv?: Stats[];
    };
    return [send, recv].map((stats) => {
      const find = (id: string | undefined) => stats.find((one) => one.id === id);
      const transport = stats.find(({ type }) => type === 'transport');
      const pair = find(transport?.selectedCandidatePairId);
      return find(pair?.localCandidateId)?.protocol;
    });
  });

/** Waits until a page plays so much more of someone, pictures and sound. */
async function plays(page: Page, name: string): Promise<void> {
  const before = seen(await look(page), name);
  await until(
    `${name} seen and heard`,
    async () => seen(await look(page), name),
    (now) =>
      (now?.framesDecoded ?? 0) >= (before?.framesDecoded ?? 0) + 15 &&
      (now?.energy ?? 0) > (before?.energy ?? 0),
  );
}

test('who cannot send UDP meets the others over TCP', async () => {
  const room = newRoom();
  const ann = await enter(await openPage(), 'Ann', room);
  const ben = await enter(await withoutUdp.newPage(), 'Ben', room);
  await plays(ann, 'Ben');
  await plays(ben, 'Ann');
  expect(await protocols(ben)).toEqual(['tcp', 'tcp']);
  expect(await protocols(ann)).toEqual(['udp', 'udp']);
  // The path is searched anew, over new connections.
  await ben.evaluate(() => window.__meeting?.restartIce());
  await plays(ann, 'Ben');
  await plays(ben, 'Ann');
  await ben.click('[data-control="leave"]');
  await until(
    'Ben is gone',
    () => look(ann),
    ({ others }) => others.length === 0,
  );
});
