import { afterAll, beforeAll, expect, test } from 'vitest';
import { type CallHarness, openHarness } from './support/chromium';
import { ADMIN_FLAG, Broadcaster, decode, FfmpegSource } from './support/pipeline';
import { TestServer } from './support/server';
import { newRoom, pictures, sound } from './support/talk';
import { until } from './support/wait';

const BROWSER = 'browser';

let server: TestServer;
let call: CallHarness;

beforeAll(async () => {
  server = await TestServer.start({ name: 'plain', flags: [ADMIN_FLAG] });
  call = await openHarness();
});

afterAll(async () => {
  await call('closeAll');
  expect(await server?.stop(), 'exit status of the server').toBe(0);
});

test.each([
  ['plain RTP', undefined],
  ['SRTP', Buffer.from('a key of 16 byte and a salt...').toString('base64')],
])('Chromium sees and hears what ffmpeg sends as %s', async (_, key) => {
  const room = newRoom();
  await call('open', BROWSER, 'new protoo', server.wsUrl, room);
  const broadcaster = await Broadcaster.begin(server, room, 'camera');
  const { flags, audio, video } = await broadcaster.publish(key);
  const ffmpeg = new FfmpegSource(flags);
  try {
    const { frameWidth, frameHeight } = await pictures(call, BROWSER, video, 15);
    expect([frameWidth, frameHeight]).toEqual([320, 240]);
    await sound(call, BROWSER, audio);
    expect(await broadcaster.end()).toBe(200);
    await until(
      'the browser is told that the pipeline left',
      () => call('said', BROWSER),
      (said) => said.some(({ name }) => name === 'peerClosed'),
    );
    expect(ffmpeg.said).toBe('');
  } finally {
    await ffmpeg.stop();
    await call('close', BROWSER);
  }
});

test.each([
  ['plain RTP', false],
  ['SRTP', true],
])('ffmpeg decodes what Chromium sends, as %s to the ports that were named', async (_, srtp) => {
  const room = newRoom();
  await call('open', BROWSER, 'opencall', server.wsUrl, room);
  const producers = {
    video: await call('sendVideo', BROWSER, { codec: 'VP8' }),
    audio: await call('sendAudio', BROWSER),
  };
  const broadcaster = await Broadcaster.begin(server, room, 'sink');
  expect(await decode(await broadcaster.watch(producers, srtp), 30)).toBe('');
  expect(await broadcaster.end()).toBe(200);
  await call('close', BROWSER);
});
