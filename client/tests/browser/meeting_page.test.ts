import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openPage } from './support/chromium';
import { TestServer } from './support/server';
import { newRoom } from './support/talk';
import { sleep, until } from './support/wait';

const out = join(import.meta.dirname, 'out');

/** Until whoever comes late sees the first picture: what people take for "at once". */
const FIRST_PICTURE_MS = 1000;

/** Until a browser sends all its layers. */
const LAYERS_START_MS = 40_000;

let server: TestServer;

beforeAll(async () => {
  server = await TestServer.start({ name: 'meeting-page' });
});

afterAll(() => server?.stop());

/** Opens the page as someone; small pictures, because one machine is everyone. */
async function enter(
  name: string,
  room: string,
  query = '',
  prepare: () => void = () => undefined,
): Promise<Page> {
  const page = await openPage();
  await page.addInitScript(watchFirstPicture);
  await page.addInitScript(prepare);
  await page.goto(
    `${server.httpUrl}/?room=${room}&name=${name}&autojoin=1&height=360&fps=15${query}`,
  );
  return page;
}

/** Runs in the page: notes when the meeting was begun and when the first other person could be seen. */
function watchFirstPicture() {
  const times = { joinedAt: 0, seenAt: 0 };
  Object.assign(window, { times });
  const timer = setInterval(() => {
    if (times.joinedAt === 0 && window.__meeting) times.joinedAt = performance.now();
    const videos = document.querySelectorAll<HTMLVideoElement>('[data-local="false"] video');
    if ([...videos].every((video) => video.readyState < 2)) return;
    times.seenAt = performance.now();
    clearInterval(timer);
  }, 5);
}

const names = (page: Page) =>
  page.locator('.oc-tile[data-local="false"] .oc-name span').allTextContents();

/** Names of the others whose pictures move. */
async function seen(page: Page): Promise<string[]> {
  return page.evaluate(async () => {
    const tiles = [...document.querySelectorAll('.oc-tile[data-local="false"]')];
    const moving = await Promise.all(
      tiles.map(async (tile) => {
        const video = tile.querySelector('video');
        if (!video) return [];
        const frames = () => video.getVideoPlaybackQuality().totalVideoFrames;
        const before = frames();
        await new Promise((resolve) => setTimeout(resolve, 400));
        return frames() > before ? [tile.querySelector('.oc-name span')?.textContent ?? ''] : [];
      }),
    );
    return moving.flat().sort();
  });
}

async function sees(page: Page, expected: string[]) {
  await until(
    `${expected} in motion`,
    () => seen(page),
    (list) => list.join() === expected.join(),
  );
}

/** Sum of the energy of all sound received. */
function heard(page: Page): Promise<number> {
  return page.evaluate(async () => {
    const { recv } = (await window.__meeting?.stats()) ?? { recv: [] };
    return (recv as { kind?: string; totalAudioEnergy?: number }[])
      .filter(({ kind, totalAudioEnergy }) => kind === 'audio' && totalAudioEnergy !== undefined)
      .reduce((sum, { totalAudioEnergy }) => sum + (totalAudioEnergy ?? 0), 0);
  });
}

async function hears(page: Page) {
  const before = await heard(page);
  await until(
    'sound',
    () => heard(page),
    (energy) => energy > before,
  );
}

test('people see and hear each other; the late one at once; whoever leaves is gone', async () => {
  const room = newRoom();
  const ann = await enter('Ann', room);
  const ben = await enter('Ben', room);
  await sees(ann, ['Ben']);
  await sees(ben, ['Ann']);
  await Promise.all([hears(ann), hears(ben)]);

  const enterLate = async () => {
    const page = await enter('Cleo', room);
    await sees(page, ['Ann', 'Ben']);
    const { joinedAt, seenAt } = await page.evaluate(
      () => (window as unknown as { times: { joinedAt: number; seenAt: number } }).times,
    );
    const lateMs = Math.round(seenAt - joinedAt);
    console.log(`late joiner: first picture after ${lateMs} ms`);
    return { page, lateMs };
  };
  let late = await enterLate();
  // What else the machine does only adds to it: the best of three counts.
  for (let again = 0; again < 2 && late.lateMs >= FIRST_PICTURE_MS; again++) {
    await late.page.close();
    await sees(ann, ['Ben']);
    late = await enterLate();
  }
  const { page: cleo, lateMs } = late;
  await Promise.all([sees(ann, ['Ben', 'Cleo']), hears(cleo)]);
  await cleo.screenshot({ path: join(out, 'meeting-three.png') });
  expect(lateMs).toBeLessThan(FIRST_PICTURE_MS);

  await ben.click('[data-control="leave"]');
  await until(
    'Ben is gone',
    () => names(ann),
    (list) => list.join() === 'Cleo',
    3000,
  );
  await ben.screenshot({ path: join(out, 'farewell.png') });
  await cleo.close();
  // A closed tab says goodbye too.
  await until(
    'Cleo is gone',
    () => names(ann),
    (list) => list.length === 0,
    3000,
  );
  await ann.screenshot({ path: join(out, 'meeting-alone.png') });
  await ann.close();
});

test('a muted microphone and a stopped camera show on the other side, and come back', async () => {
  const room = newRoom();
  const ann = await enter('Ann', room);
  const ben = await enter('Ben', room);
  await sees(ann, ['Ben']);
  await ben.click('[data-control="microphone"]');
  await ann.waitForSelector('.oc-tile[data-local="false"][data-muted="true"]');
  await ben.click('[data-control="microphone"]');
  await ann.waitForSelector('.oc-tile[data-local="false"][data-muted="false"]');
  await ben.click('[data-control="camera"]');
  await ann.waitForSelector('.oc-tile[data-local="false"][data-picture="false"]');
  await ann.screenshot({ path: join(out, 'camera-off.png') });
  await ben.click('[data-control="camera"]');
  await sees(ann, ['Ben']);
  await hears(ann);
  await Promise.all([ann.close(), ben.close()]);
});

test('whoever speaks is highlighted', async () => {
  const room = newRoom();
  const ann = await enter('Ann', room, '&microphone=0');
  const ben = await enter('Ben', room);
  // Chromium's invented microphone beeps once a second.
  await ann.waitForSelector('.oc-tile[data-local="false"][data-speaking="true"]', {
    timeout: 8000,
  });
  await Promise.all([ann.close(), ben.close()]);
});

test('a shared screen stands beside the people', async () => {
  const room = newRoom();
  const ann = await enter('Ann', room);
  const ben = await enter('Ben', room);
  await sees(ann, ['Ben']);
  await ben.click('[data-control="screen"]');
  await ann.waitForSelector('.oc-tile[data-source="screen"][data-picture="true"] video');
  await sees(ann, ['Ben', 'Ben’s screen']);
  await ann.screenshot({ path: join(out, 'screen-shared.png') });
  await ben.click('[data-control="screen"]');
  await ann.waitForSelector('.oc-tile[data-source="screen"]', { state: 'detached' });
  await Promise.all([ann.close(), ben.close()]);
});

test('without camera and microphone one can still watch and listen', async () => {
  const room = newRoom();
  const ann = await enter('Ann', room);
  const ben = await openPage();
  await ben.addInitScript(() => {
    const denied = () => Promise.reject(new DOMException('no', 'NotAllowedError'));
    navigator.mediaDevices.getUserMedia = denied;
  });
  await ben.goto(`${server.httpUrl}/?room=${room}&name=Ben&autojoin=1`);
  await ben.waitForSelector('[role="alert"][data-error="device-denied"]');
  await sees(ben, ['Ann']);
  await hears(ben);
  await until(
    'Ben is shown',
    () => names(ann),
    (list) => list.join() === 'Ben',
  );
  await ben.screenshot({ path: join(out, 'camera-denied.png') });
  await Promise.all([ann.close(), ben.close()]);
});

test('the lobby takes a name and a room, and remembers them', async () => {
  const page = await openPage();
  await page.goto(`${server.httpUrl}/`);
  await page.waitForSelector('.page-mirror video:not([hidden])');
  await page.screenshot({ path: join(out, 'lobby.png') });
  await page.fill('input[name="name"]', 'Ann Berg');
  await page.fill('input[name="room"]', 'room of Ann');
  await page.click('button[type="submit"]');
  await page.waitForSelector('[data-status="joined"]');
  expect(new URL(page.url()).searchParams.get('room')).toBe('room of Ann');
  await page.goto(`${server.httpUrl}/`);
  expect(await page.inputValue('input[name="name"]')).toBe('Ann Berg');
  await page.setViewportSize({ width: 390, height: 780 });
  await page.screenshot({ path: join(out, 'lobby-phone.png') });
  await page.close();
});

test('after a restart of the server the meeting goes on by itself', async () => {
  const own = await TestServer.start({ name: 'restart' });
  let revived: TestServer | undefined;
  try {
    const enterOwn = async (name: string) => {
      const page = await openPage();
      await page.goto(`${own.httpUrl}/?room=r&name=${name}&autojoin=1&height=360&fps=15`);
      return page;
    };
    const ann = await enterOwn('Ann');
    const ben = await enterOwn('Ben');
    await sees(ann, ['Ben']);
    await own.kill();
    await ann.waitForSelector('[data-status="reconnecting"]');
    await ann.screenshot({ path: join(out, 'reconnecting.png') });
    revived = await TestServer.start({ name: 'restart', ports: own.ports });
    await ann.waitForSelector('.oc-meeting[data-status="joined"]');
    await sees(ann, ['Ben']);
    await sees(ben, ['Ann']);
    await hears(ann);
    await Promise.all([ann.close(), ben.close()]);
  } finally {
    await revived?.stop();
  }
});

/** Frames encoded so far of each camera layer that this page sends, low to high. */
function encoded(page: Page): Promise<number[]> {
  return page.evaluate(async () => {
    type Outbound = { type: string; rid?: string; framesEncoded?: number };
    const { send } = (await window.__meeting?.stats()) ?? { send: [] };
    return (send as Outbound[])
      .filter(({ type, rid }) => type === 'outbound-rtp' && rid)
      .sort((a, b) => String(a.rid).localeCompare(String(b.rid)))
      .map(({ framesEncoded }) => framesEncoded ?? 0);
  });
}

/** Which layers are being sent: those that gain frames in a while. */
async function layersSent(page: Page): Promise<boolean[]> {
  const before = await encoded(page);
  await sleep(1000);
  return (await encoded(page)).map((frames, layer) => frames > (before[layer] ?? 0));
}

const widthSeen = (page: Page) =>
  page.evaluate(
    () => document.querySelector<HTMLVideoElement>('[data-local="false"] video')?.videoWidth ?? 0,
  );

/** Runs in the page: Chromium sends three layers only from 960×540 on, and invents no such camera unless asked so. */
function largeCamera() {
  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  const video = { width: 960, height: 540, frameRate: 10 };
  navigator.mediaDevices.getUserMedia = (wanted) => open(wanted?.video ? { video } : wanted);
}

test('layers of the camera that nobody takes are not sent, and come back for who does', async () => {
  const room = newRoom();
  const ann = await enter('Ann', room, '', largeCamera);
  // Whoever opens Chromium's one invented camera changes it for all.
  const ben = await enter('Ben', room, '&camera=0&microphone=0');
  const sends = (layers: string, timeoutMs?: number) =>
    until(
      `the layers ${layers}`,
      () => layersSent(ann),
      (sent) => sent.join() === layers,
      timeoutMs,
    );
  // A browser leaves the best layer out while its estimate is low or its CPU busy, as others' start-up makes it.
  await sends('true,true,true', LAYERS_START_MS);
  await ben.setViewportSize({ width: 320, height: 260 });
  await sends('true,false,false');
  await sees(ben, ['Ann']);
  expect(await widthSeen(ben)).toBe(240);

  await ben.setViewportSize({ width: 1600, height: 1100 });
  const asked = Date.now();
  await until(
    'the best layer',
    () => widthSeen(ben),
    (width) => width === 960,
  );
  console.log(`the best layer was back after ${Date.now() - asked} ms`);
  expect(Date.now() - asked).toBeLessThan(5000);
  await sends('true,true,true');
}, 90_000);
