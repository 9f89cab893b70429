import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CallHarness, openHarness } from './support/chromium';
import { TestServer } from './support/server';
import { endTalk, find, pictures, sound, startTalk } from './support/talk';
import { sleep, until } from './support/wait';

let server: TestServer;
let call: CallHarness;
let encoders: string[];

beforeAll(async () => {
  server = await TestServer.start({ name: 'codecs' });
  call = await openHarness();
  encoders = await call('encoders');
});

afterAll(() => server?.stop());

describe.each(['VP8', 'VP9', 'H264', 'AV1'])('%s', (codec) => {
  test('travels as one stream', async (context) => {
    if (!encoders.includes(codec)) context.skip(`this Chromium cannot encode ${codec}`);
    const talk = await startTalk(call, server, { video: { codec } });
    const video = await pictures(call, talk.receiver, talk.videoId, 30);
    expect(video.mimeType).toBe(`video/${codec}`);
    expect(video.frameWidth).toBe(640);
    expect(video.packetsLost).toBe(0);
    expect(video.freezeCount).toBe(0);
    await endTalk(call, talk);
  });

  test('travels as simulcast, and changes its layer without a freeze', async (context) => {
    if (!encoders.includes(codec)) context.skip(`this Chromium cannot encode ${codec}`);
    // Chromium sends three layers only from 960×540 on.
    const video = { codec, simulcast: true, width: 960, height: 540, fps: 15 };
    const talk = await startTalk(call, server, { video });
    const first = await pictures(call, talk.receiver, talk.videoId, 10);
    expect(first.mimeType).toBe(`video/${codec}`);
    const widthIs = (width: number) =>
      until(
        `layer of width ${width}`,
        () => find(call, talk.receiver, talk.videoId),
        (track) => track?.frameWidth === width,
      );
    await widthIs(960);
    const before = await pictures(call, talk.receiver, talk.videoId, 15);
    for (const [layer, width] of [
      [0, 240],
      [1, 480],
      [2, 960],
      [0, 240],
    ] as const) {
      await call('setLayers', talk.receiver, first.consumerId, layer, 2);
      await widthIs(width);
      await pictures(call, talk.receiver, talk.videoId, 8);
    }
    const after = await find(call, talk.receiver, talk.videoId);
    expect(after?.freezeCount).toBe(before.freezeCount);
    expect(after?.packetsLost).toBe(0);
    await endTalk(call, talk);
  });
});

test('fewer temporal layers mean fewer frames, without a freeze', async () => {
  const video = { codec: 'VP8', simulcast: true, width: 960, height: 540, fps: 24 };
  const talk = await startTalk(call, server, { video });
  const { consumerId } = await pictures(call, talk.receiver, talk.videoId, 30);
  const framesIn2s = async () => {
    const before = (await find(call, talk.receiver, talk.videoId))?.framesDecoded ?? 0;
    await sleep(2000);
    return ((await find(call, talk.receiver, talk.videoId))?.framesDecoded ?? 0) - before;
  };
  const all = await framesIn2s();
  await call('setLayers', talk.receiver, consumerId, 2, 0);
  await sleep(500);
  const base = await framesIn2s();
  // The base of three temporal layers is a quarter of the frames.
  expect(base).toBeGreaterThan(0);
  expect(base).toBeLessThan(all * 0.5);
  await endTalk(call, talk);
});

test('Opus is heard', async () => {
  const talk = await startTalk(call, server, {});
  const audio = await sound(call, talk.receiver, talk.audioId);
  expect(audio.mimeType).toBe('audio/opus');
  expect(audio.packetsLost).toBe(0);
  await endTalk(call, talk);
});
