import { expect, test } from 'vitest';
import type { Received } from './harness/harness';
import { type CallHarness, openHarness } from './support/chromium';
import { Relay } from './support/relay';
import { TestServer } from './support/server';
import { find, newRoom, sound } from './support/talk';
import { holds, isProof } from './support/timing';
import { until } from './support/wait';

/** Packets of sound looked at, 20 ms each: half a minute where it is to be proved. */
const PLAY_PACKETS = isProof ? 1500 : 500;

/** One packet of ten is lost on each way, and the round trip is 200 ms. */
const LOSSY = { lossUpPercent: 10, lossDownPercent: 10, delayMs: 100 };

/** What was added of what is counted while so many packets came. */
async function play(call: CallHarness, peers: string[], audioId: string, packets = PLAY_PACKETS) {
  const look = async () => {
    const tracks = await Promise.all(peers.map((peer) => find(call, peer, audioId)));
    return tracks.map((track) => {
      if (!track) throw new Error('a track is gone');
      return track;
    });
  };
  const before = await look();
  const after = await until('packets of sound', look, (now) =>
    now.every((track, index) => {
      const from = before[index];
      return expected(track) >= packets + (from ? expected(from) : 0);
    }),
  );
  return after.map((track, index) => {
    const from = before[index] as Received;
    const bytes = (of: Received) => of.bytesReceived + of.headerBytesReceived;
    return {
      packets: expected(track) - expected(from),
      lost: track.packetsLost - from.packetsLost,
      repetitions: track.fecPacketsReceived - from.fecPacketsReceived,
      concealed: track.concealedSamples - from.concealedSamples,
      samples: track.totalSamplesReceived - from.totalSamplesReceived,
      bytesPerPacket: (bytes(track) - bytes(from)) / (track.packetsReceived - from.packetsReceived),
    };
  });
}

function expected({ packetsReceived, packetsLost }: Received): number {
  return packetsReceived + packetsLost;
}

test('who loses sound gets it repeated, and who knows nothing of that hears as before', async () => {
  const server = await TestServer.start({ name: 'red-out' });
  const relays: Relay[] = [];
  try {
    for (const seed of [1, 2]) relays.push(await Relay.start(server, { ...LOSSY, seed }));
    const [repeated, plain] = relays.map(({ port }) => ({ relayPort: port, repair: false }));
    const call = await openHarness();
    const room = newRoom();
    await call('open', 'ann', 'opencall', server.wsUrl, room, {});
    const audioId = await call('sendAudio', 'ann', { opusDtx: false });
    await call('open', 'ben', 'opencall', server.wsUrl, room, { ...repeated, red: true });
    await call('open', 'eve', 'opencall', server.wsUrl, room, { ...plain });
    for (const peer of ['ben', 'eve']) await sound(call, peer, audioId);
    // Of a frame and of two of them; Opus alone is 80 bytes, its RTP header as long as ever.
    await until(
      'sound is repeated',
      () => play(call, ['ben', 'eve'], audioId, 50),
      ([ben, eve]) => (ben?.bytesPerPacket ?? 0) > 1.5 * (eve?.bytesPerPacket ?? 0),
    );
    const [ben, eve] = await play(call, ['ben', 'eve'], audioId);
    console.info('measured: with and without repetitions', JSON.stringify({ ben, eve }));
    if (!ben || !eve) throw new Error('unreachable: both were looked at');
    // Both lose as much.
    expect(ben.lost).toBeGreaterThan(PLAY_PACKETS / 20);
    expect(eve.lost).toBeGreaterThan(PLAY_PACKETS / 20);
    // Each link draws its own losses: what is concealed is told for each packet lost.
    const share = ben.concealed / ben.lost / (eve.concealed / eve.lost);
    holds('% of what is concealed without', 100 * share, 20);
    expect(share).toBeLessThan(0.5);
    expect(ben.bytesPerPacket / eve.bytesPerPacket).toBeLessThanOrEqual(2.1);
    await call('closeAll');
  } finally {
    for (const relay of relays) relay.stop();
    expect(await server.stop()).toBe(0);
  }
});

test('sound that comes repeated is repaired for everyone, however they know it', async () => {
  const server = await TestServer.start({
    name: 'red-in',
    workers: 2,
    flags: ['--placement=spread'],
  });
  const relay = await Relay.start(server, { ...LOSSY, seed: 3 });
  try {
    const call = await openHarness();
    const room = newRoom();
    const link = { relayPort: relay.port, repair: false, red: true };
    await call('open', 'ann', 'opencall', server.wsUrl, room, link);
    const audioId = await call('sendAudio', 'ann', { opusDtx: false, repeated: true });
    await call('open', 'ben', 'new protoo', server.wsUrl, room, {});
    await call('open', 'eve', 'opencall', server.wsUrl, room, { red: true });
    await call('watch', 'eye', `${server.httpUrl}/whep/${room}`);
    for (const peer of ['ben', 'eve']) await sound(call, peer, audioId);
    const played = await play(call, ['ben', 'eve'], audioId);
    console.info('measured: behind a lossy sender', JSON.stringify(played));
    for (const { concealed, samples } of played) {
      // One of a hundred: two lost in a row. Of what is lost, padding that probes the sender's link has no repetition, and
      // there is much of it while a machine is busy: so not the packets count, but what is heard.
      holds('% concealed behind a sender that loses 10', (100 * concealed) / samples, 3);
      expect(concealed / samples).toBeLessThan(0.07);
    }
    const watched = (await call('watched', 'eye')).find(({ kind }) => kind === 'audio');
    expect(watched).toMatchObject({ mimeType: 'audio/opus', payloadType: 111 });
    const { packetsReceived = 0, concealedSamples = 0, totalSamplesReceived = 0 } = watched ?? {};
    expect(packetsReceived).toBeGreaterThan(PLAY_PACKETS / 2);
    expect(concealedSamples / totalSamplesReceived).toBeLessThan(0.07);
    const [incoming] = await call('streamStats', 'ann', 'producer', audioId);
    expect(incoming?.packetsLost).toBeGreaterThan(PLAY_PACKETS / 20);
    await call('closeAll');
  } finally {
    relay.stop();
    expect(await server.stop()).toBe(0);
  }
});
