import { describe, expect, test } from 'vitest';
import { type CallHarness, openHarness } from './support/chromium';
import { TestServer } from './support/server';
import {
  endTalk,
  newRoom,
  pictures,
  sound,
  startTalk,
  type Talk,
  watchForFreezes,
} from './support/talk';
import { holds } from './support/timing';
import { until } from './support/wait';

type Use = (call: CallHarness, server: TestServer) => Promise<void>;

async function withServer(options: Parameters<typeof TestServer.start>[0], use: Use) {
  const server = await TestServer.start(options);
  try {
    await use(await openHarness(), server);
  } finally {
    // A server that does not end by itself when asked has lost a thread.
    expect(await server.stop()).toBe(0);
  }
}

async function seenAndHeard(call: CallHarness, talk: Talk) {
  const video = await pictures(call, talk.receiver, talk.videoId, 30);
  const audio = await sound(call, talk.receiver, talk.audioId);
  expect(video.packetsLost + audio.packetsLost).toBe(0);
}

test('media travel over IPv6', () =>
  withServer({ name: 'ipv6', ip: '::1' }, async (call, server) => {
    const talk = await startTalk(call, server);
    await seenAndHeard(call, talk);
    const path = await call('path', talk.receiver, 'recv');
    expect(path.remoteAddress.replace(/[[\]]/g, '')).toBe('::1');
    expect(path.protocol).toBe('udp');
    await endTalk(call, talk);
  }));

describe.each(['uring', 'mmsg'])('with --io %s', (io) => {
  test('people see and hear each other', () =>
    withServer({ name: `io-${io}`, flags: [`--io=${io}`] }, async (call, server) => {
      const talk = await startTalk(call, server);
      await seenAndHeard(call, talk);
      await endTalk(call, talk);
    }));
});

test.each([1, 2])('a room spread over %i data cores is one room', (workers) =>
  withServer(
    { name: `spread-${workers}`, workers, flags: ['--placement=spread'] },
    async (call, server) => {
      const room = newRoom();
      const peers = ['p1', 'p2', 'p3', 'p4'];
      const videos = new Map<string, string>();
      for (const peer of peers) {
        await call('open', peer, 'opencall', server.wsUrl, room);
        videos.set(peer, await call('sendVideo', peer, { width: 320, height: 180 }));
      }
      const ports = new Set<string>();
      for (const receiver of peers) {
        await until(
          `${receiver} sees three others`,
          () => call('received', receiver),
          (tracks) => tracks.filter(({ framesDecoded }) => framesDecoded > 5).length === 3,
        );
        ports.add((await call('path', receiver, 'recv')).remotePort);
      }
      expect(ports.size).toBe(workers);
      const lost = (await call('received', 'p1')).map(({ packetsLost }) => packetsLost);
      expect(lost).toEqual([0, 0, 0]);
      await call('closeAll');
    },
  ),
);

test('a call goes on through an ICE restart of both directions', () =>
  withServer({ name: 'ice-restart' }, async (call, server) => {
    const talk = await startTalk(call, server, { video: { steady: true } });
    const before = await pictures(call, talk.receiver, talk.videoId, 15);
    const didNotFreeze = await watchForFreezes(call, talk);
    for (const [peer, direction] of [
      [talk.receiver, 'recv'],
      [talk.sender, 'send'],
    ] as const) {
      const { localUfrag } = await call('path', peer, direction);
      await call('restartIce', peer, direction);
      await until(
        'the new credentials carry the call',
        () => call('path', peer, direction),
        (path) => path.localUfrag !== localUfrag && path.connectionState === 'connected',
      );
    }
    const after = await pictures(call, talk.receiver, talk.videoId, 30);
    await didNotFreeze();
    holds('freezes', after.freezeCount - before.freezeCount, 1);
    await endTalk(call, talk);
  }));
