import { FakeMediaStreamTrack } from 'fake-mediastreamtrack';
import { AccessToken } from 'livekit-server-sdk';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import WebSocket from 'ws';
import { Meeting } from '../../src/sdk/index';
import { TestServer } from '../browser/support/server';
import { makeDevice } from '../unit/fake-server';
import { Peer } from './peer';

const KEY = 'APItests';
const SECRET = '0123456789abcdefghijklmnopqrstuv';

let server: TestServer;

beforeAll(async () => {
  // Node.js 20 has none of its own.
  vi.stubGlobal('WebSocket', WebSocket);
  server = await TestServer.start({ name: 'host-mute', flags: [`--auth-key=${KEY}=${SECRET}`] });
});

afterAll(async () => {
  await server.stop();
  vi.unstubAllGlobals();
});

function mint(identity: string, roomAdmin: boolean): Promise<string> {
  const token = new AccessToken(KEY, SECRET, { identity });
  token.addGrant({ roomJoin: true, room: 'm', roomAdmin });
  return token.toJwt();
}

test('whom a host unmutes is heard by nobody before they speak again', async () => {
  const host = await Peer.connect(server, 'opencall', { token: await mint('host', true) });
  await host.join();
  const meeting = new Meeting({
    url: `${server.wsUrl}/ws`,
    token: await mint('ben', false),
    meetingId: 'm',
    displayName: 'Ben',
    makeDevice,
  });
  await meeting.join();
  const track = new FakeMediaStreamTrack({ kind: 'audio' }) as unknown as MediaStreamTrack;
  await meeting.enable('microphone', { track });
  const { producerId } = await host.event('newProducer');
  const { data: rtpCapabilities } = await host.ask('getRouterCapabilities', {});
  await host.ask('consume', { producerId, rtpCapabilities });

  const muted = new Promise((resolve) => meeting.on('mutedByHost', resolve));
  await host.ask('muteParticipant', { target: 'ben', source: 'microphone' });
  await host.event('consumerPaused');
  await muted;
  // Answered after what was asked before it.
  await meeting.setDisplayName('Benjamin');
  await host.ask('muteParticipant', { target: 'ben', source: 'microphone', muted: false });
  await meeting.setDisplayName('Ben again');
  await vi.waitUntil(() => host.heard('newParticipant').length === 3);
  expect(host.heard('consumerResumed')).toEqual([]);
  expect(meeting.snapshot.devices.microphone).toBe('muted');
  await meeting.unmute();
  await host.event('consumerResumed');
  meeting.leave();
  await host.leave();
});
