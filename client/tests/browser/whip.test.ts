import { expect, test } from 'vitest';
import { openHarness } from './support/chromium';
import { PythonPeer } from './support/python';
import { TestServer } from './support/server';
import { newRoom, pictures, sound } from './support/talk';
import { until } from './support/wait';

interface WhipReport {
  state?: string;
  etag?: string;
  deleted?: number;
  again?: number;
}

test('aiortc publishes by WHIP and Chromium sees and hears it', async () => {
  const server = await TestServer.start({ name: 'whip' });
  const room = newRoom();
  const call = await openHarness();
  await call('open', 'browser', 'opencall', server.wsUrl, room);
  const peer = new PythonPeer<WhipReport>('whip_peer.py', 'whip', [
    `${server.httpUrl}/whip/${room}`,
  ]);
  try {
    await until(
      'aiortc is connected',
      () => peer.report(),
      (report) => report?.state === 'connected',
    );
    const tracks = await until(
      'the browser has both tracks',
      () => call('received', 'browser'),
      (tracks) => tracks.length === 2,
    );
    const of = (kind: string) => tracks.find((track) => track.kind === kind)?.producerId ?? '';
    const seen = await pictures(call, 'browser', of('video'), 30);
    expect([seen.frameWidth, seen.frameHeight]).toEqual([320, 240]);
    await sound(call, 'browser', of('audio'));
    expect(await peer.stop(), 'exit status of the peer').toBe(0);
    await until(
      'the browser is told that the publisher left',
      () => call('said', 'browser'),
      (said) => said.some(({ name }) => name === 'participantLeft'),
    );
    await call('closeAll');
  } finally {
    await peer.stop();
    expect(await server.stop(), 'exit status of the server').toBe(0);
  }
});
