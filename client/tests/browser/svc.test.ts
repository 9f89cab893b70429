import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CallHarness, openHarness } from './support/chromium';
import { TestServer } from './support/server';
import { endTalk, find, pictures, startTalk, type Talk, watchForFreezes } from './support/talk';
import { cases, holds } from './support/timing';
import { until } from './support/wait';

let server: TestServer;
let call: CallHarness;
let encoders: string[];

beforeAll(async () => {
  server = await TestServer.start({ name: 'svc' });
  call = await openHarness();
  encoders = await call('encoders');
});

afterAll(() => server?.stop());

/** Pictures after which rates have settled. */
const FRAMES = 30;

/** Waits until a layer is on screen; packets per decoded picture from then on. */
async function packetsPerPicture(talk: Talk, width: number) {
  await until(
    `layer of width ${width}`,
    () => find(call, talk.receiver, talk.videoId),
    (track) => track?.frameWidth === width,
  );
  const before = await pictures(call, talk.receiver, talk.videoId, 4);
  const after = await pictures(call, talk.receiver, talk.videoId, FRAMES);
  expect(after.frameWidth, 'it stays').toBe(width);
  return (
    (after.packetsReceived - before.packetsReceived) / (after.framesDecoded - before.framesDecoded)
  );
}

/** One of each codec first. */
const MODES: [codec: string, scalabilityMode: string][] = [
  ['VP9', 'L3T3_KEY'],
  ['AV1', 'L3T3'],
  ['VP9', 'L3T3'],
  ['VP9', 'S3T3'],
  ['AV1', 'L3T3_KEY'],
];

describe.each(cases(MODES, 2))('%s %s', (codec, scalabilityMode) => {
  test('the picture follows the spatial layer that is asked for, without a freeze', async (context) => {
    if (!encoders.includes(codec)) context.skip(`this Chromium cannot encode ${codec}`);
    const size = { width: 960, height: 540, fps: 15 };
    const video = { codec, scalabilityMode, steady: true, ...size };
    const talk = await startTalk(call, server, { video });
    const { consumerId, type } = await pictures(call, talk.receiver, talk.videoId, 10);
    expect(type).toBe('svc');
    const whole = await packetsPerPicture(talk, 960);
    const first = await find(call, talk.receiver, talk.videoId);
    const didNotFreeze = await watchForFreezes(call, talk);
    const rates: Record<number, number> = {};
    for (const [layer, width] of [
      [0, 240],
      [1, 480],
      [2, 960],
      [1, 480],
      [0, 240],
    ] as const) {
      await call('setLayers', talk.receiver, consumerId, layer, 2);
      rates[layer] = await packetsPerPicture(talk, width);
    }
    await didNotFreeze();
    console.info(
      `${codec} ${scalabilityMode}: packets per picture ${JSON.stringify({ whole, ...rates })}`,
    );
    expect(rates[0], 'packets of the lowest').toBeLessThan(0.6 * whole);
    const last = await find(call, talk.receiver, talk.videoId);
    expect(last?.packetsLost).toBe(0);
    holds('freezes', (last?.freezeCount ?? 0) - (first?.freezeCount ?? 0), 1);
    holds('dropped', (last?.framesDropped ?? 0) - (first?.framesDropped ?? 0), 5);
    await endTalk(call, talk);
  });
});
