import { expect, test } from 'vitest';
import type { Said } from './harness/dialects';
import { openHarness } from './support/chromium';
import { TestServer } from './support/server';
import { endTalk, pictures, sound, startTalk } from './support/talk';
import { holds } from './support/timing';

/** Of two cores, one after the other: both ends of the call lose theirs. */
const DEATHS = 3;

/**
 * What the server says of a call that goes on. The packets that were lost are lost packets, of which it judges the
 * connection as of any others; a connection that is gone would be another word.
 */
const isOrdinary = ({ name, data }: Said) =>
  name === 'activeSpeakers' ||
  name === 'downlinkBwe' ||
  (name === 'connectionQuality' && data !== 'disconnected');

/** A picture that stands for this long is noticed; a new core, its key frame and decoding it fit. */
const STANDSTILL_MS = 1000;

test(`a call survives ${DEATHS} deaths of data cores, and its clients hear of none`, async () => {
  const server = await TestServer.start({
    name: 'dead-core',
    workers: 2,
    flags: ['--placement=spread', '--debug-faults'],
  });
  try {
    const call = await openHarness();
    const talk = await startTalk(call, server, { video: { steady: true } });
    await pictures(call, talk.receiver, talk.videoId);
    await sound(call, talk.receiver, talk.audioId);
    const peers = [talk.sender, talk.receiver];
    const look = async () => ({
      states: await Promise.all(peers.map((peer) => call('states', peer))),
      said: (await Promise.all(peers.map((peer) => call('said', peer)))).map((said) =>
        said.filter((event) => !isOrdinary(event)).map(({ name }) => name),
      ),
    });
    const before = await look();
    expect(before.states).toEqual([
      ['send connecting', 'send connected'],
      ['recv connecting', 'recv connected'],
    ]);
    for (let death = 1; death <= DEATHS; death += 1) {
      await call('watchDecoding', talk.receiver, talk.videoId);
      const { died, recovered, lastRecoveryMs } = await server.killCore();
      expect([died, recovered]).toEqual([death, death]);
      await pictures(call, talk.receiver, talk.videoId, 30);
      await sound(call, talk.receiver, talk.audioId);
      const standstillMs = await call('longestStandstillMs', talk.receiver, talk.videoId);
      expect(standstillMs, 'pictures were watched').toBeGreaterThan(0);
      holds(`death ${death}: ms without a new picture`, standstillMs, STANDSTILL_MS);
      holds(`death ${death}: ms until another core`, lastRecoveryMs, 100);
    }
    expect(await look()).toEqual(before);
    await endTalk(call, talk);
  } finally {
    // A server that does not end by itself when asked has lost a thread.
    expect(await server.stop()).toBe(0);
  }
});
