import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DialectName } from './harness/dialects';
import { type CallHarness, openHarness } from './support/chromium';
import { TestServer } from './support/server';
import { endTalk, find, newRoom, pictures, sound, startTalk } from './support/talk';
import { until } from './support/wait';

let server: TestServer;
let call: CallHarness;

beforeAll(async () => {
  server = await TestServer.start({ name: 'dialects' });
  call = await openHarness();
});

afterAll(() => server?.stop());

const dialects: DialectName[] = ['old protoo', 'new protoo', 'opencall'];

describe.each(dialects)('a client of unmodified mediasoup-client that speaks %s', (dialect) => {
  test('is seen and heard, without loss', async () => {
    const talk = await startTalk(call, server, { dialect });
    const video = await pictures(call, talk.receiver, talk.videoId, 30);
    const audio = await sound(call, talk.receiver, talk.audioId);
    expect(video.packetsLost).toBe(0);
    expect(audio.packetsLost).toBe(0);
    expect(video.peerId).toBe(talk.sender);
    await endTalk(call, talk);
  });

  test('sees a paused track stand still, and go on', async () => {
    const talk = await startTalk(call, server, { dialect });
    await pictures(call, talk.receiver, talk.videoId);
    await call('setPaused', talk.sender, talk.videoId, true);
    await until(
      'the pause',
      () => call('said', talk.receiver),
      (said) => said.some(({ name }) => name === 'consumerPaused'),
    );
    await call('setPaused', talk.sender, talk.videoId, false);
    await pictures(call, talk.receiver, talk.videoId);
    await endTalk(call, talk);
  });

  test('is told when a track ends and when someone leaves', async () => {
    const talk = await startTalk(call, server, { dialect });
    await pictures(call, talk.receiver, talk.videoId);
    await call('stop', talk.sender, talk.videoId);
    const ended =
      dialect === 'opencall' ? ['producerClosed', 'consumerClosed'] : ['consumerClosed'];
    await until(
      'the end of the track',
      () => call('said', talk.receiver),
      (said) => said.some(({ name }) => ended.includes(name)),
    );
    await call('close', talk.sender);
    const left = dialect === 'opencall' ? 'participantLeft' : 'peerClosed';
    await until(
      'the farewell',
      () => call('said', talk.receiver),
      (said) => said.some(({ name }) => name === left),
    );
    await call('close', talk.receiver);
  });

  test('hears who speaks', async () => {
    const talk = await startTalk(call, server, { dialect });
    const event = dialect === 'opencall' ? 'activeSpeakers' : 'activeSpeaker';
    const said = await until(
      'the speaker',
      () => call('said', talk.receiver),
      (list) =>
        list.some(({ name, data }) => name === event && JSON.stringify(data).includes(talk.sender)),
    );
    expect(said.map(({ name }) => name)).toContain(event);
    await endTalk(call, talk);
  });
});

test('clients of all three dialects share one room', async () => {
  const room = newRoom();
  const videos = new Map<string, string>();
  for (const dialect of dialects) {
    await call('open', dialect, dialect, server.wsUrl, room);
    videos.set(dialect, await call('sendVideo', dialect, { width: 320, height: 180 }));
  }
  for (const receiver of dialects) {
    for (const [sender, producerId] of videos) {
      if (sender === receiver) continue;
      await until(
        `${receiver} is offered the video of ${sender}`,
        () => find(call, receiver, producerId),
        Boolean,
      );
      await pictures(call, receiver, producerId, 5);
    }
  }
  for (const dialect of dialects) await call('close', dialect);
});
