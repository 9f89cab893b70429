import { expect, test } from 'vitest';
import type { StreamStats } from './harness/dialects';
import type { Continuity } from './harness/frames';
import type { Received, Sent, Smoothness } from './harness/harness';
import { openHarness } from './support/chromium';
import { Relay } from './support/relay';
import { TestServer } from './support/server';
import { endTalk, find, pictures, sound, startTalk } from './support/talk';
import { holds, isProof } from './support/timing';
import { until } from './support/wait';

const FPS = 15;

/** Until the bandwidth is estimated and the encoder has come to rest: about five seconds. */
const WARM_UP_FRAMES = 5 * FPS;

/** How long is looked at: about twenty seconds, with a packet of sound every 20 ms. */
const PLAY_FRAMES = 20 * FPS;
const PLAY_SOUNDS = 1000;

/** What people call a freeze. */
const FREEZE_MS = 500;

/** What happened while it was looked at. */
interface Played {
  shown: Smoothness;
  /** In the video's own time, which a busy machine does not stretch. */
  encoded: Continuity;
  decoded: Continuity;
  /** Differences of what the receiver counts. */
  video: Received;
  audio: Received;
  /** The same of the sender. */
  sent: Sent;
  sentAudio: Sent;
  /** What the server counted of the video all along, where it came in and where it went out. */
  server: { incoming: StreamStats | undefined; outgoing: StreamStats | undefined };
}

/** A call in which either side's link loses 2 % of the packets each way. */
async function play(name: string, options: { repair: boolean; delayMs: number }): Promise<Played> {
  const server = await TestServer.start({ name });
  const impairment = { lossUpPercent: 2, lossDownPercent: 2, delayMs: options.delayMs };
  const relays: Relay[] = [];
  try {
    for (const seed of [1, 2]) relays.push(await Relay.start(server, { ...impairment, seed }));
    const call = await openHarness();
    const [sender, receiver] = relays.map(({ port }) => ({
      relayPort: port,
      repair: options.repair,
    }));
    if (!sender || !receiver) throw new Error('unreachable: two relays were started');
    const talk = await startTalk(call, server, {
      video: { codec: 'VP8', width: 640, height: 360, fps: FPS, followed: true },
      audio: { opusNack: options.repair },
      links: { sender, receiver },
    });
    await pictures(call, talk.receiver, talk.videoId, 1);
    await sound(call, talk.receiver, talk.audioId);
    for (const [peer, direction, relay] of [
      [talk.sender, 'send', relays[0]],
      [talk.receiver, 'recv', relays[1]],
    ] as const) {
      expect((await call('path', peer, direction)).remotePort).toBe(String(relay?.port));
    }
    const counters = async () => {
      const [sent] = await call('sent', talk.sender, talk.videoId);
      const [sentAudio] = await call('sent', talk.sender, talk.audioId);
      const video = await find(call, talk.receiver, talk.videoId);
      const audio = await find(call, talk.receiver, talk.audioId);
      if (!sent || !sentAudio || !video || !audio) throw new Error('a stream is gone');
      return { video, audio, sent, sentAudio };
    };
    const framesMore = async (frames: number, sounds: number) => {
      const { sent, sentAudio } = await counters();
      await until(
        `${frames} pictures more`,
        counters,
        (now) =>
          now.sent.framesEncoded >= sent.framesEncoded + frames &&
          now.sentAudio.packetsSent >= sentAudio.packetsSent + sounds,
      );
    };
    await call('decodedFrames', talk.receiver, talk.videoId);
    await framesMore(WARM_UP_FRAMES, 0);

    const before = await counters();
    await call('smoothness', talk.receiver, talk.videoId);
    await call('encodedFrames', talk.sender, talk.videoId);
    await call('decodedFrames', talk.receiver, talk.videoId);
    await framesMore(PLAY_FRAMES, PLAY_SOUNDS);
    const decoded = await call('decodedFrames', talk.receiver, talk.videoId);
    const [encoded] = await call('encodedFrames', talk.sender, talk.videoId);
    if (!encoded) throw new Error('unreachable: pictures were encoded');
    const shown = await call('smoothness', talk.receiver, talk.videoId);
    const after = await counters();
    const { sender: ann, receiver: ben, videoId } = talk;
    const legs = async () => {
      const [incoming] = await call('streamStats', ann, 'producer', videoId);
      const [outgoing] = await call('streamStats', ben, 'consumer', after.video.consumerId);
      return { incoming, outgoing };
    };
    const counted = options.repair
      ? await until('round trips as long as the links', legs, ({ incoming, outgoing }) =>
          [incoming, outgoing].every((leg) => isRoundTrip(leg?.roundTripTime, options.delayMs)),
        )
      : await legs();
    await endTalk(call, talk);
    const played = {
      shown,
      encoded,
      decoded,
      video: difference(before.video, after.video),
      audio: difference(before.audio, after.audio),
      sent: difference(before.sent, after.sent),
      sentAudio: difference(before.sentAudio, after.sentAudio),
      server: counted,
    };
    console.info(name, JSON.stringify(played));
    return played;
  } finally {
    for (const relay of relays) relay.stop();
    expect(await server.stop()).toBe(0);
  }
}

/** What a link with this delay each way takes, and the two ends of it, which a busy machine keeps waiting now and then. */
function isRoundTrip(roundTripMs: number | undefined, delayMs: number): boolean {
  return (
    roundTripMs !== undefined && roundTripMs >= 2 * delayMs - 1 && roundTripMs < 2 * delayMs + 60
  );
}

/** Of the pictures that were encoded in any stretch of the video's time, the share that was decoded. */
function shareDecoded({ encoded, decoded }: Played): number {
  return decoded.frames / decoded.spanMs / (encoded.frames / encoded.spanMs);
}

/** What was added to each number; everything else is as in the end. */
function difference<T extends object>(before: T, after: T): T {
  const differences: Partial<T> = {};
  for (const [key, value] of Object.entries(after) as [keyof T, unknown][]) {
    const earlier: unknown = before[key];
    const isNumber = typeof value === 'number' && typeof earlier === 'number';
    differences[key] = (isNumber ? value - earlier : value) as T[keyof T];
  }
  return differences as T;
}

/** Most of these calls' time is waiting for pictures: all of them take place at once, unless their times are of interest. */
const together = isProof ? test : test.concurrent;

together.each([0, 20])(
  'a loss of two percent each way on either link is not seen, with a delay of %i ms',
  async (delayMs) => {
    const played = await play(`loss-${delayMs}`, { repair: true, delayMs });
    const { shown, encoded, decoded, video, audio, sent, sentAudio, server } = played;
    expect(decoded.longestGapMs).toBeLessThan(encoded.longestGapMs + FREEZE_MS);
    expect(shareDecoded(played)).toBeGreaterThan(0.97);
    holds('longest gap', shown.longestGapMs, FREEZE_MS);
    // Frames that come together after a repair may share a screen refresh, so fewer are shown.
    holds('frames decoded per frame shown', decoded.frames / shown.frames, 2);
    // Both legs were repaired, by the one who asks and the one who answers.
    expect(sent.nackCount).toBeGreaterThan(0);
    expect(sent.retransmittedPacketsSent).toBeGreaterThan(0);
    expect(video.nackCount).toBeGreaterThan(0);
    expect(video.retransmittedPacketsReceived).toBeGreaterThan(0);
    expect(server.incoming?.nackCount).toBeGreaterThan(0);
    expect(server.outgoing?.nackCount).toBeGreaterThan(0);
    expect(server.outgoing?.packetsRetransmitted).toBeGreaterThan(0);
    expect(sentAudio.nackCount).toBeGreaterThan(0);
    expect(sentAudio.retransmittedPacketsSent).toBeGreaterThan(0);
    expect(audio.nackCount).toBeGreaterThan(0);
    // Of about 40 lost on the two legs.
    expect(audio.packetsLost).toBeLessThan(5);
    // Nothing had to be healed by a new key frame.
    expect(video.pliCount).toBe(0);
    expect(sent.pliCount).toBe(0);
  },
);

together('the same loss is seen and heard by those who cannot ask for packets again', async () => {
  const played = await play('loss-unrepaired', { repair: false, delayMs: 0 });
  const { encoded, decoded, video, audio, sent, sentAudio, server } = played;
  expect(server.incoming?.nackCount).toBe(0);
  expect(server.outgoing?.packetsRetransmitted).toBe(0);
  expect(sent.nackCount + sentAudio.nackCount).toBe(0);
  expect(video.nackCount + audio.nackCount).toBe(0);
  expect(video.retransmittedPacketsReceived).toBe(0);
  expect(video.packetsLost).toBeGreaterThan(0);
  expect(audio.packetsLost).toBeGreaterThan(10);
  expect(decoded.longestGapMs).toBeGreaterThan(encoded.longestGapMs + FREEZE_MS);
  expect(video.freezeCount).toBeGreaterThan(0);
  expect(video.totalFreezesDuration).toBeGreaterThan(1);
  expect(shareDecoded(played)).toBeLessThan(0.75);
  // Only key frames help then.
  expect(video.pliCount).toBeGreaterThan(0);
  expect(sent.pliCount).toBeGreaterThan(0);
});
