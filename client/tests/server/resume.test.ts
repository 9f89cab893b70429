import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import WebSocket from 'ws';
import { WebSocketChannel } from '../../src/sdk/signaling';
import { CuttableLink } from '../browser/support/cuttable';
import { TestServer } from '../browser/support/server';
import { Peer } from './peer';

let server: TestServer;
let link: CuttableLink;

/** Node.js 20 has none of its own; in browsers a refused connection is no error that anyone must listen for. */
class BrowserSocket extends WebSocket {
  constructor(url: string) {
    super(url);
    this.on('error', () => undefined);
  }
}

beforeAll(async () => {
  vi.stubGlobal('WebSocket', BrowserSocket);
  server = await TestServer.start({ name: 'resume' });
  link = await CuttableLink.start(server);
});

afterAll(async () => {
  link.cut();
  await server.stop();
  vi.unstubAllGlobals();
});

test.each([3, 15])('a session outlives a network that is gone for %i s', async (seconds) => {
  const meetingId = `cut-${seconds}`;
  const identity = { meetingId, participantId: 'ann' };
  const ann = await WebSocketChannel.open(`${link.wsUrl}/ws`, identity);
  const rtpCapabilities = await ann.request('getRouterCapabilities', {});
  await ann.request('createTransport', { direction: 'send' });
  await ann.request('createTransport', { direction: 'recv' });
  await ann.request('setRtpCapabilities', { rtpCapabilities, displayName: 'Ann', resume: true });
  const heard: string[] = [];
  ann.on('event', ({ name }) => heard.push(name));
  const closed = vi.fn();
  ann.on('close', closed);
  const back = new Promise<void>((resolve) => {
    ann.on('interrupted', (isInterrupted) => {
      if (!isInterrupted) resolve();
    });
  });
  const ben = await Peer.connect(server, 'opencall', { query: {} });
  const own = { meetingId, participantId: 'ben' };
  await ben.ask('getRouterCapabilities', own);
  expect(await ben.join('Ben')).toEqual(['ann']);
  await vi.waitUntil(() => heard.includes('newParticipant'));

  link.cut();
  await ben.produce('microphone');
  await ben.produce('camera');
  const asked = ann.request('changeDisplayName', { displayName: 'Anna' });
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  await link.restore();
  await Promise.all([back, asked]);
  await vi.waitUntil(() => heard.length === 3);
  expect(heard).toEqual(['newParticipant', 'newProducer', 'newProducer']);
  expect(closed).not.toHaveBeenCalled();
  // Ben has heard of one Ann, and of her new name.
  const names = () => ben.heard('newParticipant').map(({ displayName }) => displayName);
  await vi.waitUntil(() => names().length === 2);
  expect(names()).toEqual(['Ann', 'Anna']);
  expect(ben.heard('participantLeft')).toEqual([]);
  ann.close();
  await ben.event('participantLeft');
  await ben.leave();
});

test('a session that took the place of one that was given up outlives a network that is gone, too', async () => {
  const meetingId = 'given-up';
  const identity = { meetingId, participantId: 'ann' };
  const enter = async (replaces?: string) => {
    const channel = await WebSocketChannel.open(`${link.wsUrl}/ws`, identity, { replaces });
    const rtpCapabilities = await channel.request('getRouterCapabilities', {});
    await channel.request('createTransport', { direction: 'send' });
    await channel.request('createTransport', { direction: 'recv' });
    await channel.request('setRtpCapabilities', { rtpCapabilities, resume: true });
    return channel;
  };
  const ben = await Peer.connect(server, 'opencall', { query: {} });
  await ben.ask('getRouterCapabilities', { meetingId, participantId: 'ben' });
  await ben.join('Ben');
  const first = await enter();
  link.cut();
  first.close();
  await link.restore();
  const ann = await enter(first.resumeToken);
  await ben.event('participantLeft');
  const heard: string[] = [];
  ann.on('event', ({ name }) => heard.push(name));
  const closed = vi.fn();
  ann.on('close', closed);
  link.cut();
  await ben.produce('microphone');
  await ben.produce('camera');
  await link.restore();
  await ann.request('changeDisplayName', { displayName: 'Anna' });
  await vi.waitUntil(() => heard.length === 2 || closed.mock.calls.length > 0);
  expect(heard).toEqual(['newProducer', 'newProducer']);
  expect(closed).not.toHaveBeenCalled();
  ann.close();
  await ben.leave();
});
