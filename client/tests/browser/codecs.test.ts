import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type CallHarness, openHarness } from './support/chromium';
import { TestServer } from './support/server';
import { endTalk, find, pictures, sound, startTalk, watchForFreezes } from './support/talk';
import { holds } from './support/timing';
import { until } from './support/wait';

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
    const talk = await startTalk(call, server, { video: { codec, steady: true } });
    const didNotFreeze = await watchForFreezes(call, talk);
    const video = await pictures(call, talk.receiver, talk.videoId, 30);
    await didNotFreeze();
    expect(video.mimeType).toBe(`video/${codec}`);
    expect(video.frameWidth).toBe(640);
    expect(video.packetsLost).toBe(0);
    holds('freezes', video.freezeCount, 1);
    await endTalk(call, talk);
  });

  test('travels as simulcast, and changes its layer without a freeze', async (context) => {
    if (!encoders.includes(codec)) context.skip(`this Chromium cannot encode ${codec}`);
    // Chromium sends three layers only from 960×540 on.
    const video = { codec, simulcast: true, width: 960, height: 540, fps: 15, steady: true };
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
    const didNotFreeze = await watchForFreezes(call, talk);
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
    await didNotFreeze();
    const after = await find(call, talk.receiver, talk.videoId);
    expect(after?.packetsLost).toBe(0);
    holds('freezes', (after?.freezeCount ?? 0) - before.freezeCount, 1);
    await endTalk(call, talk);
  });
});

test('fewer temporal layers mean fewer frames, without a freeze', async () => {
  const video = { codec: 'VP8', simulcast: true, width: 960, height: 540, fps: 24, steady: true };
  const talk = await startTalk(call, server, { video });
  const { consumerId } = await pictures(call, talk.receiver, talk.videoId, 30);
  // Of the frames encoded meanwhile, the share that came.
  const share = async () => {
    const encoded = async () =>
      Math.max(...(await call('sent', talk.sender, talk.videoId)).map((it) => it.framesEncoded));
    const [begin, before] = [await encoded(), await find(call, talk.receiver, talk.videoId)];
    const end = await until('48 frames', encoded, (frames) => frames >= begin + 48);
    const after = await find(call, talk.receiver, talk.videoId);
    return ((after?.framesReceived ?? 0) - (before?.framesReceived ?? 0)) / (end - begin);
  };
  await until('all frames', share, (all) => all > 0.75);
  await call('setLayers', talk.receiver, consumerId, 2, 0);
  // The base of three temporal layers is a quarter of the frames.
  await until('a quarter of the frames', share, (base) => base > 0.15 && base < 0.4);
  await endTalk(call, talk);
});

test('Opus is heard', async () => {
  const talk = await startTalk(call, server, {});
  const audio = await sound(call, talk.receiver, talk.audioId);
  expect(audio.mimeType).toBe('audio/opus');
  expect(audio.packetsLost).toBe(0);
  await endTalk(call, talk);
});
