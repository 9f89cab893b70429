import { expect, test } from 'vitest';
import { type CallHarness, openHarness } from './support/chromium';
import { ownAddress } from './support/firefox';
import { GStreamerPeer, type GStreamerReport } from './support/python';
import { TestServer } from './support/server';
import { newRoom, pictures, sound } from './support/talk';
import { isProof } from './support/timing';
import { until } from './support/wait';

const BROWSER = 'browser';

/** Enough for more than what one key frame starts; to be proved: beyond the end of consent (30 s). */
const FRAMES = isProof ? 600 : 30;

const missing = GStreamerPeer.missing();

test.skipIf(missing).each(['client', 'server'] as const)(
  `two GStreamer peers (RSA certificates) and Chromium see and hear each other, GStreamer as DTLS %s${
    missing && `: ${missing}`
  }`,
  async (role) => {
    // libnice gathers no loopback candidates.
    const server = await TestServer.start({ name: 'gstreamer', mediaIp: ownAddress() });
    const room = newRoom();
    const flags = role === 'server' ? ['--dtls-server'] : [];
    const peers = ['ann', 'ben'].map(
      (id) => new GStreamerPeer(`gstreamer-${id}`, server.wsUrl, room, id, flags),
    );
    try {
      const call = await openHarness();
      await call('open', BROWSER, 'new protoo', server.wsUrl, room);
      const fromBrowser = [
        await call('sendVideo', BROWSER, { codec: 'VP8' }),
        await call('sendAudio', BROWSER),
      ];
      const reports = await Promise.all(
        peers.map((peer) =>
          until('GStreamer sees and hears two others', () => peer.report(), hasAllOfTwo),
        ),
      );
      for (const [index, report] of reports.entries()) {
        const other = Object.keys(reports[1 - index]?.sent ?? {});
        const received = report?.received ?? {};
        expect(new Set(Object.keys(received))).toEqual(new Set([...fromBrowser, ...other]));
        const sizes = Object.values(received).map(({ size }) => size?.join('x'));
        expect(sizes.filter(Boolean).sort()).toEqual(['320x240', '640x360']);
        for (const side of [report?.send, report?.recv]) expect(side).toEqual({ role, key: 'RSA' });
        await seenByBrowser(call, report);
      }
      for (const peer of peers) expect(await peer.stop(), 'exit status of a peer').toBe(0);
      await call('closeAll');
    } finally {
      for (const peer of peers) await peer.stop();
      expect(await server.stop(), 'exit status of the server').toBe(0);
    }
  },
);

/** Whether the moving pictures and the sound of two others were decoded. */
function hasAllOfTwo(report: GStreamerReport | undefined): boolean {
  const received = Object.values(report?.received ?? {});
  const videos = received.filter(({ kind, changes }) => kind === 'video' && changes >= FRAMES);
  const audios = received.filter(({ kind, energy }) => kind === 'audio' && energy > 0.1);
  return videos.length === 2 && audios.length === 2;
}

async function seenByBrowser(call: CallHarness, report: GStreamerReport | undefined) {
  for (const [producerId, kind] of Object.entries(report?.sent ?? {})) {
    if (kind === 'audio') {
      await sound(call, BROWSER, producerId);
      continue;
    }
    const { frameWidth, frameHeight } = await pictures(call, BROWSER, producerId, FRAMES);
    expect([frameWidth, frameHeight]).toEqual([320, 240]);
  }
}
