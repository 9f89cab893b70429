import { expect, test } from 'vitest';
import type { StreamStats } from './harness/dialects';
import type { Received, Sent, Smoothness } from './harness/harness';
import { openHarness } from './support/chromium';
import { Relay } from './support/relay';
import { TestServer } from './support/server';
import { endTalk, find, pictures, sound, startTalk } from './support/talk';
import { sleep } from './support/wait';

/** Until the bandwidth is estimated and the encoder has come to rest. */
const WARM_UP_MS = 5_000;

/** How long is looked at. */
const PLAY_MS = 20_000;

/** What people call a freeze. */
const FREEZE_MS = 500;

const FPS = 15;

/** What happened while it was looked at. */
interface Played {
  shown: Smoothness;
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
      video: { codec: 'VP8', width: 640, height: 360, fps: FPS },
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
    await sleep(WARM_UP_MS);

    const counters = async () => {
      const [sent] = await call('sent', talk.sender, talk.videoId);
      const [sentAudio] = await call('sent', talk.sender, talk.audioId);
      const video = await find(call, talk.receiver, talk.videoId);
      const audio = await find(call, talk.receiver, talk.audioId);
      if (!sent || !sentAudio || !video || !audio) throw new Error('a stream is gone');
      return { video, audio, sent, sentAudio };
    };
    const before = await counters();
    await call('smoothness', talk.receiver, talk.videoId);
    await sleep(PLAY_MS);
    const shown = await call('smoothness', talk.receiver, talk.videoId);
    const after = await counters();
    const { sender: ann, receiver: ben, videoId } = talk;
    const [incoming] = await call('streamStats', ann, 'producer', videoId);
    const [outgoing] = await call('streamStats', ben, 'consumer', after.video.consumerId);
    await endTalk(call, talk);
    const played = {
      shown,
      video: difference(before.video, after.video),
      audio: difference(before.audio, after.audio),
      sent: difference(before.sent, after.sent),
      sentAudio: difference(before.sentAudio, after.sentAudio),
      server: { incoming, outgoing },
    };
    console.info(name, JSON.stringify(played));
    return played;
  } finally {
    for (const relay of relays) relay.stop();
    expect(await server.stop()).toBe(0);
  }
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

test.each([0, 20])(
  'a loss of two percent each way on either link is not seen, with a delay of %i ms',
  async (delayMs) => {
    const { shown, video, audio, sent, sentAudio, server } = await play(`loss-${delayMs}`, {
      repair: true,
      delayMs,
    });
    expect(shown.longestGapMs).toBeLessThan(FREEZE_MS);
    // Frames that come together after a repair may share a screen refresh, so fewer are shown.
    expect(shown.frames).toBeGreaterThan((PLAY_MS / 1000) * FPS * 0.5);
    expect(video.framesDecoded).toBeGreaterThan(sent.framesEncoded * 0.97);
    // Both legs were repaired, by the one who asks and the one who answers.
    expect(sent.nackCount).toBeGreaterThan(0);
    expect(sent.retransmittedPacketsSent).toBeGreaterThan(0);
    expect(video.nackCount).toBeGreaterThan(0);
    expect(video.retransmittedPacketsReceived).toBeGreaterThan(0);
    expect(server.incoming?.nackCount).toBeGreaterThan(0);
    expect(server.outgoing?.nackCount).toBeGreaterThan(0);
    expect(server.outgoing?.packetsRetransmitted).toBeGreaterThan(0);
    // The server knows how far both are: the one by extended reports, the other by receiver reports.
    for (const leg of [server.incoming, server.outgoing]) {
      expect(leg?.roundTripTime).toBeGreaterThanOrEqual(2 * delayMs - 1);
      expect(leg?.roundTripTime).toBeLessThan(2 * delayMs + 60);
    }
    expect(sentAudio.nackCount).toBeGreaterThan(0);
    expect(sentAudio.retransmittedPacketsSent).toBeGreaterThan(0);
    expect(audio.nackCount).toBeGreaterThan(0);
    // Of about 40 lost on the two legs.
    expect(audio.packetsLost).toBeLessThan(5);
    // Nothing had to be healed by a new key frame.
    expect(video.pliCount).toBe(0);
    expect(sent.pliCount).toBe(0);
  },
  55_000,
);

test('the same loss is seen and heard by those who cannot ask for packets again', async () => {
  const { shown, video, audio, sent, sentAudio, server } = await play('loss-unrepaired', {
    repair: false,
    delayMs: 0,
  });
  expect(server.incoming?.nackCount).toBe(0);
  expect(server.outgoing?.packetsRetransmitted).toBe(0);
  expect(sent.nackCount + sentAudio.nackCount).toBe(0);
  expect(video.nackCount + audio.nackCount).toBe(0);
  expect(video.retransmittedPacketsReceived).toBe(0);
  expect(video.packetsLost).toBeGreaterThan(0);
  expect(audio.packetsLost).toBeGreaterThan(10);
  expect(shown.longestGapMs).toBeGreaterThan(FREEZE_MS);
  expect(video.freezeCount).toBeGreaterThan(0);
  expect(video.totalFreezesDuration).toBeGreaterThan(1);
  expect(video.framesDecoded).toBeLessThan(sent.framesEncoded * 0.75);
  // Only key frames help then.
  expect(video.pliCount).toBeGreaterThan(0);
  expect(sent.pliCount).toBeGreaterThan(0);
}, 55_000);
