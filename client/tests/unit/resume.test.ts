import * as fake from 'mediasoup-client/fakeParameters';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Meeting } from '../../src/sdk/meeting';
import { WebSocketChannel } from '../../src/sdk/signaling';
import { makeDevice } from './fake-server';

interface Frame {
  type: string;
  id: string;
  data: Record<string, unknown>;
}

/** A socket whose other end is the test. */
class FakeSocket {
  static readonly OPEN = 1;
  static all: FakeSocket[] = [];
  static isReachable = true;
  readyState = 0;
  sent: Frame[] = [];
  closedWith: number | undefined;
  onopen: (() => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;

  constructor() {
    FakeSocket.all.push(this);
    setTimeout(() => {
      if (FakeSocket.isReachable) {
        this.readyState = FakeSocket.OPEN;
        this.onopen?.();
      } else this.onclose?.({ code: 1006, reason: '' });
    });
  }

  send(text: string) {
    this.sent.push(JSON.parse(text));
  }

  close(code = 1005) {
    this.closedWith = code;
    this.readyState = 3;
  }

  drop(code = 1006) {
    this.readyState = 3;
    this.onclose?.({ code, reason: '' });
  }

  say(frame: unknown) {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }

  answer(id: string | undefined, data: unknown) {
    this.say({ type: 'response', id, data });
  }

  named(name: string): Frame | undefined {
    return this.sent.find(({ type }) => type === `mediasoup:${name}`);
  }
}

const settle = () => vi.advanceTimersByTimeAsync(5);

function last(): FakeSocket {
  const socket = FakeSocket.all.at(-1);
  if (!socket) throw new Error('nobody connected');
  return socket;
}

beforeEach(() => {
  vi.useFakeTimers();
  FakeSocket.all = [];
  FakeSocket.isReachable = true;
  vi.stubGlobal('WebSocket', FakeSocket);
  vi.stubGlobal('fetch', () => Promise.reject(new Error('no network')));
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

/** A channel that has entered: it has sent one frame and received one. */
async function entered(resumeToken: string | undefined = 'first') {
  const opening = WebSocketChannel.open('ws://x/ws', { meetingId: 'm', participantId: 'p' });
  await settle();
  const channel = await opening;
  const joining = channel.request('setRtpCapabilities', { rtpCapabilities: {}, resume: true });
  last().answer(last().sent[0]?.id, resumeToken ? { resumeToken } : {});
  await joining;
  const interruptions: boolean[] = [];
  const closed = vi.fn();
  channel.on('interrupted', (isInterrupted) => interruptions.push(isInterrupted));
  channel.on('close', closed);
  return { channel, interruptions, closed };
}

test('after a cut the session goes on: what was lost is sent again, what was heard is not', async () => {
  const { channel, interruptions, closed } = await entered();
  const heard = channel.request('pauseProducer', { producerId: 'heard' });
  const lost = channel.request('pauseProducer', { producerId: 'lost' });
  last().drop();
  expect(interruptions).toEqual([true]);
  const meanwhile = channel.request('resumeProducer', { producerId: 'meanwhile' });
  await settle();
  expect(last().named('resume')?.data).toEqual({
    meetingId: 'm',
    participantId: 'p',
    resumeToken: 'first',
    received: 1,
  });
  // Of three frames the server has had two.
  last().answer('resume', { resumeToken: 'second', received: 2 });
  expect(interruptions).toEqual([true, false]);
  const again = last().sent.slice(1);
  expect(again.map(({ data }) => data.producerId)).toEqual(['lost', 'meanwhile']);
  // What it has answered before comes once more, and then the rest.
  last().answer('2', {});
  for (const { id } of again) last().answer(id, {});
  await Promise.all([heard, lost, meanwhile]);
  expect(closed).not.toHaveBeenCalled();
  // The next time it is the other token, and four more frames.
  last().drop();
  await settle();
  expect(last().named('resume')?.data).toMatchObject({ resumeToken: 'second', received: 4 });
});

test('a network that comes back after twenty seconds is soon enough, after thirty too late', async () => {
  const { interruptions, closed } = await entered();
  FakeSocket.isReachable = false;
  last().drop();
  await vi.advanceTimersByTimeAsync(20_000);
  expect(closed).not.toHaveBeenCalled();
  FakeSocket.isReachable = true;
  for (let step = 0; step < 80 && !last().named('resume'); step += 1) {
    await vi.advanceTimersByTimeAsync(100);
  }
  last().answer('resume', { resumeToken: 'second', received: 1 });
  expect(interruptions).toEqual([true, false]);
  FakeSocket.isReachable = false;
  last().drop();
  await vi.advanceTimersByTimeAsync(40_000);
  expect(closed).toHaveBeenCalledOnce();
});

test('a session that is over ends, and so does one that the server ends', async () => {
  const { closed } = await entered();
  last().drop();
  await settle();
  last().say({ type: 'error', id: 'resume', error: 'join again' });
  await settle();
  expect(closed).toHaveBeenCalledExactlyOnceWith({ code: 1006, reason: 'join again' });
  const other = await entered();
  last().drop(4000);
  expect(other.closed).toHaveBeenCalledOnce();
});

test('without a token a lost connection is all there was', async () => {
  const { channel, interruptions, closed } = await entered('');
  const request = channel.request('getStats', {});
  expect(channel.interrupt()).toBe(false);
  last().drop();
  await expect(request).rejects.toMatchObject({ code: 'server-gone' });
  expect([interruptions, closed.mock.calls.length]).toEqual([[], 1]);
});

test('whoever leaves while the connection is away says goodbye with the next', async () => {
  const { channel, closed } = await entered();
  last().drop();
  channel.close();
  await settle();
  last().answer('resume', { resumeToken: 'second', received: 1 });
  await settle();
  expect(last().closedWith).toBe(1000);
  expect(closed).toHaveBeenCalledOnce();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(FakeSocket.all).toHaveLength(2);
});

test('an answer that is lost does not end the session: it is asked for again, with the same token', async () => {
  const { interruptions, closed } = await entered();
  last().drop();
  await settle();
  const unanswered = last();
  expect(unanswered.named('resume')).toBeDefined();
  await vi.advanceTimersByTimeAsync(6_000);
  // With 1000 the server would take it for leaving, if it has handed the session over.
  expect(unanswered.closedWith).toBe(4900);
  expect(last()).not.toBe(unanswered);
  expect(last().named('resume')?.data).toMatchObject({ resumeToken: 'first', received: 1 });
  // So is one whose connection is cut before it has come.
  last().drop();
  const cut = last();
  await vi.advanceTimersByTimeAsync(2_000);
  expect(last()).not.toBe(cut);
  expect(last().named('resume')?.data).toMatchObject({ resumeToken: 'first', received: 1 });
  last().answer('resume', { resumeToken: 'second', received: 1 });
  expect(interruptions).toEqual([true, false]);
  expect(closed).not.toHaveBeenCalled();
});

test('whoever leaves while nobody answers says so on that connection', async () => {
  const { channel, closed } = await entered();
  last().drop();
  await settle();
  channel.close();
  await vi.advanceTimersByTimeAsync(6_000);
  expect(last().closedWith).toBe(1000);
  expect(closed).toHaveBeenCalledOnce();
});

test('a connection that carries nothing is left for another', async () => {
  const { channel } = await entered();
  const [stale] = FakeSocket.all;
  expect(channel.interrupt()).toBe(true);
  expect(stale?.closedWith).toBe(4900);
  await settle();
  expect(FakeSocket.all).toHaveLength(2);
  expect(last().named('resume')).toBeDefined();
});

test('what is about another session is not counted: the server does not either', async () => {
  const identity = { meetingId: 'm', participantId: 'p' };
  const opening = WebSocketChannel.open('ws://x/ws', identity, { replaces: 'old' });
  await settle();
  const channel = await opening;
  expect(last().sent[0]).toMatchObject({
    type: 'mediasoup:forget',
    data: { resumeToken: 'old' },
  });
  const joining = channel.request('setRtpCapabilities', { rtpCapabilities: {}, resume: true });
  const [forget, enter] = last().sent;
  last().answer(forget?.id, {});
  last().answer(enter?.id, { resumeToken: 'first' });
  await joining;
  last().drop();
  await settle();
  expect(last().named('resume')?.data).toMatchObject({ resumeToken: 'first', received: 1 });
});

/** Answers what has been asked, as a server that gives this token; `false` where it refuses to let anyone in. */
async function serve(resumeToken: string | false) {
  const socket = last();
  let answered = 0;
  for (let step = 0; step < 10; step += 1) {
    await settle();
    for (const { type, id } of socket.sent.slice(answered)) {
      answered += 1;
      const isEntry = type === 'mediasoup:setRtpCapabilities';
      if (isEntry && resumeToken === false) socket.say({ type: 'error', id, error: 'not now' });
      else if (isEntry) socket.answer(id, { resumeToken });
      else if (type === 'mediasoup:getRouterCapabilities')
        socket.answer(id, fake.generateRouterRtpCapabilities());
      else socket.answer(id, fake.generateTransportRemoteParameters());
    }
  }
}

/** Goes on until another connection is made. */
async function connectedAgain() {
  const before = FakeSocket.all.length;
  const isOpen = () => FakeSocket.all.length > before && last().sent.length > 0;
  for (let step = 0; step < 400 && !isOpen(); step += 1) await vi.advanceTimersByTimeAsync(20);
  expect(isOpen()).toBe(true);
}

test('a session that was given up is ended by the attempt that reaches the server, and not forgotten by those before', async () => {
  vi.spyOn(console, 'info').mockImplementation(() => undefined);
  const options = { url: 'ws://x/ws', meetingId: 'm', participantId: 'p', displayName: 'P' };
  const meeting = new Meeting({ ...options, makeDevice });
  const joining = meeting.join();
  await settle();
  await serve('first');
  await joining;
  const given = () => last().named('forget')?.data.resumeToken;
  expect(given()).toBeUndefined();

  FakeSocket.isReachable = false;
  last().drop(1011);
  const before = FakeSocket.all.length;
  await vi.advanceTimersByTimeAsync(3_000);
  expect(FakeSocket.all.length).toBeGreaterThan(before);
  FakeSocket.isReachable = true;
  await connectedAgain();
  expect(last().sent[0]?.type).toBe('mediasoup:forget');
  expect(given()).toBe('first');
  // Nobody has heard whether it did.
  last().drop(1006);
  await connectedAgain();
  expect(given()).toBe('first');
  await serve('second');
  expect(meeting.snapshot.status).toBe('joined');

  last().drop(1011);
  await connectedAgain();
  expect(given()).toBe('second');
  await serve('third');
  expect(meeting.snapshot.status).toBe('joined');
  meeting.leave();
  vi.restoreAllMocks();
});
