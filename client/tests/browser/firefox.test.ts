import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CallHarness, openHarness } from './support/chromium';
import { openFirefox, ownAddress } from './support/firefox';
import { TestServer } from './support/server';
import { newRoom, pictures, sound } from './support/talk';
import { cases } from './support/timing';
import { until } from './support/wait';

let server: TestServer;
let chromium: CallHarness;
let firefox: CallHarness;
let closeFirefox: () => Promise<void>;

beforeAll(async () => {
  server = await TestServer.start({ name: 'firefox', mediaIp: ownAddress() });
  chromium = await openHarness();
  ({ call: firefox, close: closeFirefox } = await openFirefox());
});

afterAll(async () => {
  await closeFirefox?.();
  await server?.stop();
});

test.each(['opencall', 'new protoo'] as const)(
  'Firefox and Chromium see and hear each other, speaking %s',
  async (dialect) => {
    const room = newRoom();
    await chromium('open', 'chromium', dialect, server.wsUrl, room);
    const fromChromium = await chromium('sendVideo', 'chromium', { codec: 'VP8' });
    const chromiumSound = await chromium('sendAudio', 'chromium');
    await firefox('open', 'firefox', dialect, server.wsUrl, room);
    const fromFirefox = await firefox('sendVideo', 'firefox', { codec: 'VP8' });
    const firefoxSound = await firefox('sendAudio', 'firefox');

    const seenByFirefox = await pictures(firefox, 'firefox', fromChromium, 20);
    const seenByChromium = await pictures(chromium, 'chromium', fromFirefox, 20);
    expect(seenByFirefox.packetsLost).toBe(0);
    expect(seenByChromium.packetsLost).toBe(0);
    await sound(firefox, 'firefox', chromiumSound);
    await sound(chromium, 'chromium', firefoxSound);

    await chromium('close', 'chromium');
    await until(
      'Firefox is told that Chromium left',
      () => firefox('said', 'firefox'),
      (said) => said.some(({ name }) => name === 'participantLeft' || name === 'peerClosed'),
    );
    await firefox('close', 'firefox');
  },
);

const VERSIONS: [version: string, tlsVersion: string][] = [
  ['1.3', 'FEFC'],
  ['1.2', 'FEFD'],
];

test.each(cases(VERSIONS, 1))(
  'RSA certificates over DTLS %s: both browsers send and receive',
  async (version, tlsVersion) => {
    const flags = [`--dtls-max-version=${version}`];
    const server = await TestServer.start({ name: 'rsa', mediaIp: ownAddress(), flags });
    try {
      const room = newRoom();
      const peers = [
        { name: 'chromium', call: chromium, link: { rsa: true } },
        { name: 'firefox', call: firefox, link: { rsa: true } },
        { name: 'chromium as server', call: chromium, link: { rsa: true, dtlsServer: true } },
      ];
      const sent = new Map<string, { video: string; audio: string }>();
      for (const { name, call, link } of peers) {
        await call('open', name, 'opencall', server.wsUrl, room, link);
        const video = await call('sendVideo', name, { codec: 'VP8', width: 320, height: 180 });
        sent.set(name, { video, audio: await call('sendAudio', name) });
      }
      for (const { name, call, link } of peers) {
        for (const [sender, { video, audio }] of sent) {
          if (sender === name) continue;
          expect((await pictures(call, name, video, 20)).packetsLost).toBe(0);
          await sound(call, name, audio);
        }
        const send = await call('path', name, 'send');
        const recv = await call('path', name, 'recv');
        expect(send.tlsVersion).toBe(tlsVersion);
        expect(send.dtlsParameters?.role).toBe(link.dtlsServer ? 'server' : 'client');
        // By default every connection makes a certificate of its own: one for both is the RSA one.
        expect(send.dtlsParameters?.fingerprints).toEqual(recv.dtlsParameters?.fingerprints);
      }
      // In DTLS 1.2 the suite names the type of the server's key: ours, except where the browser is the server.
      if (tlsVersion === 'FEFD') {
        const { dtlsCipher } = await chromium('path', 'chromium as server', 'send');
        expect(dtlsCipher).toBe('TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256');
      }
      for (const { name, call } of peers) await call('close', name);
    } finally {
      expect(await server.stop(), 'exit status of the server').toBe(0);
    }
  },
);

test('Firefox’s simulcast is received, and its layers change', async () => {
  const room = newRoom();
  await firefox('open', 'sender', 'opencall', server.wsUrl, room);
  const video = { codec: 'VP8', simulcast: true, width: 640, height: 480, fps: 15 };
  const producerId = await firefox('sendVideo', 'sender', video);
  await chromium('open', 'receiver', 'opencall', server.wsUrl, room);
  const { consumerId } = await pictures(chromium, 'receiver', producerId, 10);
  for (const [layer, width] of [
    [0, 160],
    [2, 640],
    [1, 320],
  ] as const) {
    await chromium('setLayers', 'receiver', consumerId, layer, 2);
    await until(
      `layer ${layer}`,
      async () => (await chromium('received', 'receiver'))[0],
      (track) => track?.frameWidth === width,
    );
  }
  await firefox('close', 'sender');
  await chromium('close', 'receiver');
});
