import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openHarness, openPage } from './support/chromium';
import { watchFirstPicture } from './support/meeting';
import { TestServer } from './support/server';
import { newRoom } from './support/talk';
import { holds, isProof } from './support/timing';
import { until } from './support/wait';

const out = join(import.meta.dirname, 'out');

/** Until whoever comes late sees the first picture: what people take for "at once". */
const FIRST_PICTURE_MS = 1000;

/**
 * The same in calls of the browser to itself: what it does for one of them it does for three here, those of the two others
 * and its own, asks the server a few times, and draws a page meanwhile.
 */
const FIRST_PICTURE_CALLS = 10;

/** Until a better layer that nobody took before is seen again. */
const BEST_LAYER_MS = 5000;

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
  ...prepare: (() => void)[]
): Promise<Page> {
  const page = await openPage();
  await page.addInitScript(watchFirstPicture);
  for (const script of prepare) await page.addInitScript(script);
  await page.goto(
    `${server.httpUrl}/?room=${room}&name=${name}&autojoin=1&height=360&fps=15${query}`,
  );
  return page;
}

/** Names on the tiles of the others. */
const names = (page: Page) =>
  page.locator('.oc-tile[data-local="false"] .oc-name span').allTextContents();

/** A picture of someone else, and how many frames of it have been shown. */
interface Shown {
  name: string;
  /** Another number for another video element. */
  video: number;
  frames: number;
}

/** Everyone else who has a picture. */
function shown(page: Page): Promise<Shown[]> {
  return page.evaluate(() => {
    const page = window as unknown as { videoNumbers?: Map<Element, number> };
    page.videoNumbers ??= new Map();
    const numbers = page.videoNumbers;
    const tiles = [...document.querySelectorAll('.oc-tile[data-local="false"]')];
    return tiles.flatMap((tile) => {
      const video = tile.querySelector('video');
      if (!video) return [];
      if (!numbers.has(video)) numbers.set(video, numbers.size);
      return {
        name: tile.querySelector('.oc-name span')?.textContent ?? '',
        video: numbers.get(video) ?? 0,
        frames: video.getVideoPlaybackQuality().totalVideoFrames,
      };
    });
  });
}

/** Waits until exactly these have pictures, and all of them move. */
async function sees(page: Page, expected: string[]) {
  const before = new Map((await shown(page)).map(({ video, frames }) => [video, frames]));
  await until(
    `${expected} in motion, and nobody else`,
    () => shown(page),
    (list) =>
      list
        .map(({ name }) => name)
        .sort()
        .join() === expected.join() &&
      list.every(({ video, frames }) => frames > (before.get(video) ?? 0)),
  );
}

/** Waits until exactly these are there, with or without a picture. */
async function meets(page: Page, expected: string[]) {
  await until(
    `${expected.join() || 'nobody'} on the other tiles`,
    () => names(page),
    (list) => [...list].sort().join() === expected.join(),
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

  const call = await openHarness();
  const enterLate = async () => {
    const ownMs = await call('ownFirstPictureMs');
    const page = await enter('Cleo', room);
    await sees(page, ['Ann', 'Ben']);
    const { joinedAt, seenAt } = await page.evaluate(() => window.times);
    return { page, lateMs: seenAt - joinedAt, ownMs };
  };
  const attempts = [await enterLate()];
  const best = () => Math.min(...attempts.map(({ lateMs }) => lateMs));
  const isAtOnce = () => attempts.some(({ lateMs, ownMs }) => lateMs < ownMs * FIRST_PICTURE_CALLS);
  // What else the machine does only adds to it: the best of a few counts.
  while (!isAtOnce() && attempts.length < 5) {
    await attempts.at(-1)?.page.close();
    await meets(ann, ['Ben']);
    attempts.push(await enterLate());
  }
  const cleo = attempts.at(-1)?.page as Page;
  await Promise.all([sees(ann, ['Ben', 'Cleo']), hears(cleo)]);
  await meets(ann, ['Ben', 'Cleo']);
  await cleo.screenshot({ path: join(out, 'meeting-three.png') });
  const times = attempts.map(({ lateMs, ownMs }) => `${lateMs} ms (own call ${ownMs} ms)`);
  expect(isAtOnce(), `a late joiner's first picture: ${times}`).toBe(true);
  holds("a late joiner's first picture, ms", best(), FIRST_PICTURE_MS);
  console.info(`late joiner: ${times}`);

  await ben.click('[data-control="leave"]');
  await meets(ann, ['Cleo']);
  await ben.screenshot({ path: join(out, 'farewell.png') });
  await cleo.close();
  // A closed tab says goodbye too.
  await meets(ann, []);
  await ann.screenshot({ path: join(out, 'meeting-alone.png') });
  await ann.close();
});

test.runIf(isProof)(
  'whoever comes and goes again and again is seen, and leaves no ghost',
  async () => {
    const room = newRoom();
    const ann = await enter('Ann', room);
    // Some are gone before they have been seen, some after.
    for (const isSeen of [false, true, false, true, true, true]) {
      const cleo = await enter('Cleo', room);
      if (isSeen) await sees(ann, ['Cleo']);
      else await meets(ann, ['Cleo']);
      await cleo.close();
    }
    const ben = await enter('Ben', room);
    await sees(ann, ['Ben']);
    await meets(ann, ['Ben']);
    await Promise.all([ann.close(), ben.close()]);
  },
);

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
  await ann.waitForSelector('.oc-tile[data-local="false"][data-speaking="true"]');
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
  await meets(ann, ['Ben']);
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

/** Runs in the page: counts how often the user is asked. */
function countQuestions() {
  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  const page = window as unknown as { questions: number };
  page.questions = 0;
  navigator.mediaDevices.getUserMedia = (wanted) => {
    page.questions += 1;
    return open(wanted);
  };
}

const questions = (page: Page) =>
  page.evaluate(() => (window as unknown as { questions: number }).questions);

test('for camera and microphone the user is asked once, with and without the lobby', async () => {
  const room = newRoom();
  const ann = await openPage();
  await ann.addInitScript(countQuestions);
  await ann.goto(`${server.httpUrl}/?room=${room}&name=Ann&height=360&fps=15#x=1`);
  await ann.waitForSelector('.page-mirror video:not([hidden])');
  await ann.click('button[type="submit"]');
  const ben = await enter('Ben', room, '', countQuestions);
  await Promise.all([sees(ben, ['Ann']), sees(ann, ['Ben'])]);
  await Promise.all([hears(ben), hears(ann)]);
  expect(await Promise.all([questions(ann), questions(ben)])).toEqual([1, 1]);
  expect(new URL(ann.url()).hash).toBe('#x=1');
  await Promise.all([ann.close(), ben.close()]);
});

/** Until people are told that the server does not answer. */
const NOTICE_MS = 6_000;

test('a frozen server is noticed, and the meeting goes on when it thaws', async () => {
  const own = await TestServer.start({ name: 'frozen' });
  try {
    const page = await openPage();
    await page.goto(`${own.httpUrl}/?room=r&name=Ann&autojoin=1&height=360&fps=15`);
    await page.waitForSelector('[data-status="joined"]');
    own.freeze(true);
    const frozenAt = Date.now();
    await page.waitForSelector('[data-unstable="true"]');
    holds('ms until a frozen server is noticed', Date.now() - frozenAt, NOTICE_MS);
    await page.waitForSelector('[data-status="reconnecting"]');
    own.freeze(false);
    await page.waitForSelector('.oc-status[data-status="joined"]');
    await page.close();
  } finally {
    own.freeze(false);
    expect(await own.stop()).toBe(0);
  }
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

/** What tells whether a layer is sent: so many frames of the smallest, which always is. */
const LAYER_FRAMES = 12;

/** Which layers are being sent: those that gain frames while the smallest does. */
async function layersSent(page: Page): Promise<boolean[]> {
  const before = await encoded(page);
  const after = await until(
    'frames of the smallest layer',
    () => encoded(page),
    ([frames = 0]) => frames >= (before[0] ?? 0) + LAYER_FRAMES,
  );
  return after.map((frames, layer) => frames > (before[layer] ?? 0));
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

/**
 * Runs in the page: a browser that finds its CPU busy or its link slow leaves the best layers out by itself, which is not
 * what is tested. So it believes in a link that carries all, and sends fewer frames rather than smaller ones.
 */
function steadyCamera() {
  const setRemoteDescription = RTCPeerConnection.prototype.setRemoteDescription as (
    description: RTCSessionDescriptionInit,
  ) => Promise<void>;
  RTCPeerConnection.prototype.setRemoteDescription = async function (
    description: RTCSessionDescriptionInit,
  ) {
    const sdp = description.sdp?.replace(
      /x-google-start-bitrate=\d+/g,
      '$&;x-google-min-bitrate=1500',
    );
    await setRemoteDescription.call(this, { ...description, ...(sdp ? { sdp } : {}) });
    const cameras = this.getSenders().filter(({ track }) => track?.kind === 'video');
    for (const camera of cameras) await camera.setParameters(camera.getParameters());
  };
  const { setParameters } = RTCRtpSender.prototype;
  RTCRtpSender.prototype.setParameters = function (parameters) {
    return setParameters.call(this, {
      ...parameters,
      degradationPreference: 'maintain-resolution',
    });
  };
}

test('layers of the camera that nobody takes are not sent, and come back for who does', async () => {
  const room = newRoom();
  const ann = await enter('Ann', room, '', largeCamera, steadyCamera);
  // Whoever opens Chromium's one invented camera changes it for all.
  const ben = await enter('Ben', room, '&camera=0&microphone=0');
  const sends = (layers: string) =>
    until(
      `the layers ${layers}`,
      () => layersSent(ann),
      (sent) => sent.join() === layers,
    );
  await sends('true,true,true');
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
  holds('until the best layer was back, ms', Date.now() - asked, BEST_LAYER_MS);
  await sends('true,true,true');
  await Promise.all([ann.close(), ben.close()]);
});
