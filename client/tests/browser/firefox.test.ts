import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CallHarness, openHarness } from './support/chromium';
import { openFirefox, ownAddress } from './support/firefox';
import { TestServer } from './support/server';
import { newRoom, pictures, sound } from './support/talk';
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
