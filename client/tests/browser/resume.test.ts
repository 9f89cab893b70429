import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openPage } from './support/chromium';
import { CuttableLink } from './support/cuttable';
import { look, seen } from './support/meeting';
import { TestServer } from './support/server';
import { newRoom } from './support/talk';
import { cases, holds, isProof } from './support/timing';
import { until } from './support/wait';

/** A picture that stands for longer than this is a freeze, to libwebrtc and to people. */
const FREEZE_MS = 500;

let server: TestServer;
let link: CuttableLink;

beforeAll(async () => {
  server = await TestServer.start({ name: 'resume' });
  link = await CuttableLink.start(server);
});

afterAll(async () => {
  link.cut();
  expect(await server.stop()).toBe(0);
});

/** What a page has seen of its meeting since it was opened. */
interface Seen {
  statuses: string[];
  /** Who was there, whenever that changed. */
  people: string[];
  /** The longest that the other's picture stood still, asked every 50 ms. */
  longestMs: number;
}

declare global {
  interface Window {
    seen: Seen;
  }
}

/** Runs in the page. */
function watch() {
  const seen: Seen = { statuses: [], people: [], longestMs: 0 };
  window.seen = seen;
  const note = (list: string[], word: string) => {
    if (list.at(-1) !== word) list.push(word);
  };
  let last = { frames: 0, at: 0 };
  setInterval(async () => {
    const meeting = window.__meeting;
    if (!meeting) return;
    note(seen.statuses, meeting.snapshot.status);
    note(seen.people, meeting.snapshot.participants.map((one) => one.displayName).join());
    const { recv } = await meeting.stats();
    // Beside the camera there is the hidden stream that probes bandwidth, of which nothing is decoded.
    const decoded = (recv as { kind?: string; framesDecoded?: number }[]).map((stream) =>
      stream.kind === 'video' ? (stream.framesDecoded ?? 0) : 0,
    );
    const frames = Math.max(0, ...decoded);
    const now = performance.now();
    if (frames !== last.frames) last = { frames, at: now };
    else if (last.at > 0) seen.longestMs = Math.max(seen.longestMs, now - last.at);
  }, 50);
}

async function enter(url: string, name: string, room: string): Promise<Page> {
  const page = await openPage();
  await page.addInitScript(watch);
  await page.goto(`${url}/?room=${room}&name=${name}&autojoin=1&height=360&fps=15`);
  return page;
}

async function sees(page: Page, name: string) {
  const before = seen(await look(page), name)?.framesDecoded ?? 0;
  await until(
    `${name} moves`,
    () => look(page),
    (now) => (seen(now, name)?.framesDecoded ?? 0) > before + 5,
  );
}

const CUTS: [seconds: number, statuses: string[]][] = [
  [3, ['joined']],
  [15, ['joined', 'reconnecting', 'joined']],
];

test.each(cases(CUTS, 1))(
  'a connection cut for %i s stops no picture, and nobody sees anyone leave',
  async (seconds, statuses) => {
    const room = newRoom();
    const ann = await enter(link.httpUrl, 'Ann', room);
    const ben = await enter(server.httpUrl, 'Ben', room);
    await Promise.all([sees(ann, 'Ben'), sees(ben, 'Ann')]);
    const reset = (page: Page) =>
      page.evaluate(() => {
        window.seen.statuses.length = 0;
        window.seen.people.length = 0;
        window.seen.longestMs = 0;
      });
    await Promise.all([reset(ann), reset(ben)]);
    const before = await Promise.all([look(ann), look(ben)]);
    link.cut();
    // What is said meanwhile is heard afterwards; and so is what was asked.
    await ben.evaluate(() => window.__meeting?.mute());
    const saying = [ann, ben].map((page) =>
      page.evaluate(() => window.__meeting?.sendChat('meanwhile')),
    );
    const muting = ann.evaluate(() => window.__meeting?.mute());
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    const during = await Promise.all([look(ann), look(ben)]);
    await link.restore();
    await Promise.all([muting, ...saying]);
    const isMuted = (page: Page) =>
      page.evaluate(
        () =>
          window.__meeting?.snapshot.participants.find(({ isLocal }) => !isLocal)?.media.microphone
            ?.paused,
      );
    for (const page of [ann, ben]) await until('the other is muted', () => isMuted(page), Boolean);
    const chat = (page: Page) =>
      page.evaluate(() =>
        window.__meeting?.snapshot.chat
          .map(({ name }) => name)
          .sort()
          .join(),
      );
    for (const page of [ann, ben]) {
      await until(
        'what both said',
        () => chat(page),
        (names) => names === 'Ann,Ben',
      );
    }
    await until(
      'the connection stands',
      () => ann.evaluate(() => window.__meeting?.snapshot),
      (snapshot) => snapshot?.status === 'joined' && !snapshot.isUnstable,
    );
    await Promise.all([sees(ann, 'Ben'), sees(ben, 'Ann')]);
    for (const [index, name] of ['Ben', 'Ann'].entries()) {
      const frames = (from: typeof before) => seen(from[index] as never, name)?.framesDecoded ?? 0;
      expect(frames(during), `pictures of ${name} meanwhile`).toBeGreaterThan(frames(before) + 5);
    }
    const [first, second] = await Promise.all(
      [ann, ben].map((page) => page.evaluate(() => window.seen)),
    );
    expect(first?.statuses).toEqual(statuses);
    expect(second?.statuses).toEqual(['joined']);
    expect(first?.people).toEqual(['Ann,Ben']);
    expect(second?.people).toEqual(['Ben,Ann']);
    expect(first?.longestMs, 'pictures were watched').toBeGreaterThan(0);
    holds(`cut for ${seconds} s: ms Ann saw one picture`, first?.longestMs ?? 0, FREEZE_MS);
    holds(`cut for ${seconds} s: ms Ben saw one picture`, second?.longestMs ?? 0, FREEZE_MS);
    await Promise.all([ann.close(), ben.close()]);
  },
);

/** Longer than the server keeps a session. */
const TOO_LONG_S = 36;

test.runIf(isProof)(
  'a connection cut for longer makes a fresh session, and leaves no ghost',
  async () => {
    const room = newRoom();
    const ann = await enter(link.httpUrl, 'Ann', room);
    const ben = await enter(server.httpUrl, 'Ben', room);
    await Promise.all([sees(ann, 'Ben'), sees(ben, 'Ann')]);
    await ben.evaluate(() => {
      window.seen.people.length = 0;
    });
    const tokens = (page: Page) =>
      page.evaluate(() => window.__meeting?.snapshot.participants.map(({ id }) => id).join());
    const before = await tokens(ann);
    link.cut();
    await new Promise((resolve) => setTimeout(resolve, TOO_LONG_S * 1000));
    expect((await ben.evaluate(() => window.seen.people)).at(-1)).toBe('Ben');
    await link.restore();
    await until(
      'a session',
      () => ann.evaluate(() => window.__meeting?.snapshot.status),
      (status) => status === 'joined',
    );
    await Promise.all([sees(ann, 'Ben'), sees(ben, 'Ann')]);
    // Ann left, and came once.
    expect(await ben.evaluate(() => window.seen.people)).toEqual(['Ben,Ann', 'Ben', 'Ben,Ann']);
    expect(await tokens(ann)).toBe(before);
    await Promise.all([ann.close(), ben.close()]);
  },
);

test('a shared screen is shared again after a restart of the server', async () => {
  const room = newRoom();
  const ann = await enter(server.httpUrl, 'Ann', room);
  const ben = await enter(server.httpUrl, 'Ben', room);
  await ann.evaluate(() => window.__meeting?.enable('screen'));
  const screen = (page: Page) =>
    page.evaluate(() => {
      const shared = window.__meeting?.snapshot.participants.find(
        ({ displayName, isLocal }) => displayName === 'Ann' && !isLocal,
      );
      return shared?.media.screen;
    });
  const isShared = (page: Page) =>
    until(
      'a screen',
      () => screen(page),
      (media) => media?.track !== null && media !== undefined,
    );
  const first = await isShared(ben);
  const { ports } = server;
  await server.kill();
  await until(
    'the loss is noticed',
    () => ben.evaluate(() => window.__meeting?.snapshot),
    (snapshot) => snapshot?.isUnstable === true || snapshot?.status === 'reconnecting',
  );
  server = await TestServer.start({ name: 'resume', ports });
  const second = await until(
    'another screen',
    () => screen(ben),
    (media) =>
      media?.track !== null &&
      media?.producerId !== undefined &&
      media.producerId !== first?.producerId,
  );
  expect(second).toBeDefined();
  expect(await ann.evaluate(() => window.__meeting?.snapshot.devices.screen)).toBe('on');
  await Promise.all([ann.close(), ben.close()]);
});

test('a server that is killed under its supervisor: everyone comes again, and once', async () => {
  const supervised = await TestServer.start({ name: 'supervised', flags: ['--supervised'] });
  try {
    const room = newRoom();
    const ann = await enter(supervised.httpUrl, 'Ann', room);
    const ben = await enter(supervised.httpUrl, 'Ben', room);
    await Promise.all([sees(ann, 'Ben'), sees(ben, 'Ann')]);
    for (const page of [ann, ben]) {
      await page.evaluate(() => {
        window.seen.longestMs = 0;
        window.seen.statuses.length = 0;
      });
    }
    await supervised.killSupervised();
    for (const page of [ann, ben]) {
      await until(
        'it is lost, and there again',
        () => page.evaluate(() => [window.seen.statuses, window.__meeting?.snapshot.isUnstable]),
        ([statuses, isUnstable]) =>
          String(statuses).includes('reconnecting,joined') && isUnstable === false,
      );
    }
    await Promise.all([sees(ann, 'Ben'), sees(ben, 'Ann')]);
    for (const [page, people] of [
      [ann, 'Ann,Ben'],
      [ben, 'Ben,Ann'],
    ] as const) {
      expect(await page.evaluate(() => window.seen.people.at(-1))).toBe(people);
      const { longestMs } = await page.evaluate(() => window.seen);
      holds(`server killed: ms ${people.slice(0, 3)} saw one picture`, longestMs, 2000);
    }
    await Promise.all([ann.close(), ben.close()]);
  } finally {
    expect(await supervised.stop()).toBe(0);
  }
});
