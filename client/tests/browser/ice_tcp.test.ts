import { join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openPage } from './support/chromium';
import { look, seen } from './support/meeting';
import { TestServer } from './support/server';
import { CHROMIUM, CHROMIUM_SWITCHES } from './support/switches';
import { newRoom } from './support/talk';
import { selfSigned } from './support/tls';
import { ceilingMs, until } from './support/wait';

let withoutUdp: Browser;

beforeAll(async () => {
  // As behind a firewall: WebRTC's own switch for networks that let no UDP through.
  withoutUdp = await chromium.launch({
    executablePath: CHROMIUM,
    args: [...CHROMIUM_SWITCHES, '--webrtc-ip-handling-policy=disable_non_proxied_udp'],
    timeout: ceilingMs(),
  });
});

afterAll(async () => {
  await withoutUdp?.close();
});

async function enter(server: TestServer, page: Page, name: string, room: string): Promise<Page> {
  page.setDefaultTimeout(ceilingMs());
  const settings = 'autojoin=1&height=360&fps=15';
  await page.goto(`${server.httpUrl}/?room=${room}&name=${name}&${settings}`);
  await page.waitForSelector('[data-status="joined"]');
  return page;
}

/** The chosen paths of a page, sending and receiving: what they go over, and to which port. */
const paths = (page: Page) =>
  page.evaluate(async () => {
    type Stats = { [name: string]: string | undefined } & { port?: number };
    const { send = [], recv = [] } = ((await window.__meeting?.stats()) ?? {}) as {
      send?: Stats[];
      recv?: Stats[];
    };
    return [send, recv].map((stats) => {
      const find = (id: string | undefined) => stats.find((one) => one.id === id);
      const transport = stats.find(({ type }) => type === 'transport');
      const pair = find(transport?.selectedCandidatePairId);
      return [find(pair?.localCandidateId)?.protocol, find(pair?.remoteCandidateId)?.port];
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

/** Two people meet on a server, of whom one has no UDP. Returns what their paths are. */
async function meet(server: TestServer): Promise<{ with: unknown; without: unknown }> {
  const room = newRoom();
  const ann = await enter(server, await openPage(), 'Ann', room);
  const ben = await enter(
    server,
    await withoutUdp.newPage({ ignoreHTTPSErrors: true }),
    'Ben',
    room,
  );
  await plays(ann, 'Ben');
  await plays(ben, 'Ann');
  const found = { with: await paths(ann), without: await paths(ben) };
  // The path is searched anew, over new connections.
  await ben.evaluate(() => window.__meeting?.restartIce());
  await plays(ann, 'Ben');
  await plays(ben, 'Ann');
  expect(await paths(ben)).toEqual(found.without);
  await ben.click('[data-control="leave"]');
  await until(
    'Ben is gone',
    () => look(ann),
    ({ others }) => others.length === 0,
  );
  await Promise.all([ann.context().close(), ben.close()]);
  return found;
}

test('who cannot send UDP meets the others over TCP', async () => {
  const server = await TestServer.start({ name: 'ice-tcp', flags: ['--ice-tcp'] });
  try {
    const found = await meet(server);
    expect(found.without).toEqual([0, 0].map(() => ['tcp', server.ports.rtc]));
    expect(found.with).toEqual([0, 0].map(() => ['udp', server.ports.rtc]));
  } finally {
    await server.stop();
  }
});

test('who reaches nothing but the port of HTTPS meets the others there', async () => {
  const { certificate, key } = selfSigned(join(import.meta.dirname, 'out/ice-tcp'));
  const tls = [`--tls-cert-file=${certificate}`, `--tls-key-file=${key}`];
  // Each of the two is on a core of its own.
  const flags = [...tls, '--ice-tcp-on-http', '--placement=spread'];
  const server = await TestServer.start({ name: 'ice-tcp-https', workers: 2, flags, tls: true });
  try {
    const { without } = await meet(server);
    expect(without).toEqual([0, 0].map(() => ['tcp', server.ports.http]));
  } finally {
    await server.stop();
  }
});
