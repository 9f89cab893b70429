import { expect, test } from 'vitest';
import { type CallHarness, openHarness } from './support/chromium';
import { Relay } from './support/relay';
import { TestServer } from './support/server';
import { endTalk, find, startTalk, type Talk } from './support/talk';
import { holds } from './support/timing';
import { until } from './support/wait';

/** Pictures to look at after each change: five seconds. */
const FRAMES = 5 * 24;

/**
 * The link, kbit/s, and the layer that it carries, by its width. Of Chromium's test picture the three layers take about 100,
 * 260 and 550 kbit/s, and the voice beside it 40.
 */
const STEPS = [
  { kbps: 600, width: 480 },
  { kbps: 240, width: 240 },
  { kbps: 2000, width: 960 },
];

/** Waits until a layer has been on screen for so many pictures in a row; when it came, in milliseconds. */
async function settles(call: CallHarness, talk: Talk, width: number, frames: number) {
  const began = Date.now();
  let since: { frames: number; ms: number } | undefined;
  await until(
    `${frames} pictures ${width} wide`,
    () => find(call, talk.receiver, talk.videoId),
    (track) => {
      if (track?.frameWidth !== width) {
        since = undefined;
        return false;
      }
      since ??= { frames: track.framesDecoded, ms: Date.now() - began };
      return track.framesDecoded >= since.frames + frames;
    },
  );
  return since?.ms ?? 0;
}

test('the layer on screen follows what the link carries, down and up', async () => {
  const server = await TestServer.start({ name: 'adaptation' });
  const relay = await Relay.start(server, { rateKbps: 4000, queueKb: 24, delayMs: 20, seed: 1 });
  try {
    const call = await openHarness();
    const talk = await startTalk(call, server, {
      video: { codec: 'VP8', simulcast: true, steady: true, width: 960, height: 540, fps: 24 },
      links: { sender: {}, receiver: { relayPort: relay.port } },
    });
    holds('ms until the best layer', await settles(call, talk, 960, 1), 3000);
    for (const { kbps, width } of STEPS) {
      const before = await find(call, talk.receiver, talk.videoId);
      relay.setDownRate(kbps);
      holds(`ms until ${width} at ${kbps} kbit/s`, await settles(call, talk, width, FRAMES), 8000);
      const after = await find(call, talk.receiver, talk.videoId);
      const available = await call('availableBitrate', talk.receiver);
      expect(available, 'an estimate').toBeGreaterThan(50_000);
      holds(`kbit/s estimated of ${kbps}`, (available ?? 0) / 1000, 1.25 * kbps);
      const frozen = (after?.totalFreezesDuration ?? 0) - (before?.totalFreezesDuration ?? 0);
      holds(`ms frozen on the way to ${kbps} kbit/s`, 1000 * frozen, 1500);
    }
    await endTalk(call, talk);
  } finally {
    relay.stop();
    expect(await server.stop()).toBe(0);
  }
});
