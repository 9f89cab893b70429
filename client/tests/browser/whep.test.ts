import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Watched } from './harness/whep';
import { type CallHarness, openHarness } from './support/chromium';
import { PythonPeer } from './support/python';
import { TestServer } from './support/server';
import { newRoom } from './support/talk';
import { until } from './support/wait';

let server: TestServer;
let call: CallHarness;

beforeAll(async () => {
  server = await TestServer.start({ name: 'whep' });
  call = await openHarness();
});

afterAll(async () => {
  await call('closeAll');
  expect(await server?.stop(), 'exit status of the server').toBe(0);
});

/** Waits until so many more pictures were decoded, and something was heard. */
async function seen(name: string, frames: number): Promise<Watched | undefined> {
  const of = async (kind: string) => (await call('watched', name)).find((of) => of.kind === kind);
  const before = await of('video');
  const energy = (await of('audio'))?.totalAudioEnergy ?? 0;
  const after = await until(
    'pictures',
    () => of('video'),
    (video) => (video?.framesDecoded ?? 0) >= (before?.framesDecoded ?? 0) + frames,
  );
  await until(
    'sound',
    () => of('audio'),
    (audio) => (audio?.totalAudioEnergy ?? 0) > energy,
  );
  return after;
}

test('ten lines of script show what mediasoup-client publishes, by the browser’s own numbers', async () => {
  const room = newRoom();
  await call('open', 'ann', 'opencall', server.wsUrl, room);
  await call('sendVideo', 'ann', { codec: 'VP8' });
  await call('sendAudio', 'ann');
  await call('watch', 'eye', `${server.httpUrl}/whep/${room}`);
  const video = await seen('eye', 30);
  // The router’s VP8 is 101: the server sends what the offer said.
  expect(video).toMatchObject({ mimeType: 'video/VP8', payloadType: 96, frameHeight: 360 });
  expect(await call('restartWatching', 'eye')).toBe(200);
  await seen('eye', 30);

  // Whom it watches goes, and somebody else comes with another codec: the page does nothing.
  await call('close', 'ann');
  await call('open', 'ben', 'new protoo', server.wsUrl, room);
  await call('sendVideo', 'ben', { codec: 'VP9' });
  await call('sendAudio', 'ben');
  expect(await seen('eye', 30)).toMatchObject({ mimeType: 'video/VP9' });
  expect(await call('watchingState', 'eye')).toBe('connected');
  expect(await call('unwatch', 'eye')).toBe(200);
  await call('close', 'ben');
});

test('what aiortc publishes by WHIP is watched by WHEP', async () => {
  const room = newRoom();
  const peer = new PythonPeer<{ state?: string }>('whip_peer.py', 'whep-whip', [
    `${server.httpUrl}/whip/${room}`,
  ]);
  try {
    await until(
      'aiortc is connected',
      () => peer.report(),
      (report) => report?.state === 'connected',
    );
    await call('watch', 'eye', `${server.httpUrl}/whep/${room}`);
    expect(await seen('eye', 30)).toMatchObject({ frameWidth: 320, frameHeight: 240 });
    expect(await call('unwatch', 'eye')).toBe(200);
  } finally {
    expect(await peer.stop(), 'exit status of the peer').toBe(0);
  }
});
