import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { sameOriginUrl, WebSocketChannel } from '../../src/sdk/signaling';

/** A socket whose other end is the test. */
class FakeSocket {
  static readonly OPEN = 1;
  static last: FakeSocket;
  readyState = 0;
  sent: { type: string; id: string; data: Record<string, unknown> }[] = [];
  onopen: (() => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;

  constructor(readonly url: string) {
    FakeSocket.last = this;
  }

  send(text: string) {
    this.sent.push(JSON.parse(text));
  }

  close(code = 1005) {
    this.readyState = 3;
    this.onclose?.({ code, reason: '' });
  }

  open() {
    this.readyState = FakeSocket.OPEN;
    this.onopen?.();
  }

  say(frame: unknown) {
    this.onmessage?.({ data: typeof frame === 'string' ? frame : JSON.stringify(frame) });
  }
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('WebSocket', FakeSocket);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

async function openChannel() {
  const opening = WebSocketChannel.open('ws://x/ws', { meetingId: 'm', participantId: 'p' });
  FakeSocket.last.open();
  return { channel: await opening, socket: FakeSocket.last };
}

test('the address follows the page', () => {
  expect(sameOriginUrl({ protocol: 'https:', host: 'a:1' })).toBe('wss://a:1/ws');
  expect(sameOriginUrl({ protocol: 'http:', host: '[::1]:8080' })).toBe('ws://[::1]:8080/ws');
});

test('answers find their requests in any order', async () => {
  const { channel, socket } = await openChannel();
  const first = channel.request('getStats', {});
  const second = channel.request('pauseProducer', { producerId: 'x' });
  expect(socket.sent[1]?.data).toEqual({ meetingId: 'm', participantId: 'p', producerId: 'x' });
  socket.say({ type: 'response', id: socket.sent[1]?.id, data: 2 });
  socket.say({ type: 'response', id: socket.sent[0]?.id, data: 1 });
  expect(await Promise.all([first, second])).toEqual([1, 2]);
});

test('a refusal rejects with the server’s words', async () => {
  const { channel, socket } = await openChannel();
  const request = channel.request('getStats', {});
  socket.say({ type: 'error', id: socket.sent[0]?.id, error: 'not now' });
  await expect(request).rejects.toMatchObject({ code: 'request-refused', message: 'not now' });
});

test('in front of a locked room requests wait for a person', async () => {
  const { channel, socket } = await openChannel();
  const request = channel.request('getStats', {}, { timeoutMs: 1000 });
  socket.say({ type: 'mediasoup:waiting', data: {} });
  await vi.advanceTimersByTimeAsync(100_500);
  socket.say({ type: 'mediasoup:admitted', data: {} });
  socket.say({ type: 'response', id: socket.sent[0]?.id, data: 1 });
  expect(await request).toBe(1);
  const late = channel.request('getStats', {}, { timeoutMs: 1000 });
  const rejected = expect(late).rejects.toMatchObject({ code: 'request-timed-out' });
  await vi.advanceTimersByTimeAsync(1001);
  await rejected;
});

test('silence rejects, and a late answer is ignored', async () => {
  const { channel, socket } = await openChannel();
  const request = channel.request('getStats', {}, { timeoutMs: 1000 });
  const rejected = expect(request).rejects.toMatchObject({ code: 'request-timed-out' });
  await vi.advanceTimersByTimeAsync(1001);
  await rejected;
  socket.say({ type: 'response', id: socket.sent[0]?.id, data: 1 });
});

test('a lost connection rejects what is under way, then says so once', async () => {
  const { channel, socket } = await openChannel();
  const closed = vi.fn();
  channel.on('close', closed);
  const request = channel.request('getStats', {});
  socket.close(1006);
  await expect(request).rejects.toMatchObject({ code: 'server-gone' });
  await expect(channel.request('getStats', {})).rejects.toMatchObject({ code: 'server-gone' });
  expect(closed).toHaveBeenCalledExactlyOnceWith({ code: 1006, reason: '' });
});

test('events reach their listeners; noise reaches nobody', async () => {
  const { channel, socket } = await openChannel();
  const heard = vi.fn();
  const stop = channel.on('event', heard);
  socket.say('not json');
  socket.say({ type: 'mediasoup:activeSpeakers', data: ['a'] });
  stop();
  socket.say({ type: 'mediasoup:activeSpeakers', data: [] });
  expect(heard).toHaveBeenCalledOnce();
  expect(heard.mock.calls[0]?.[0]).toMatchObject({ name: 'activeSpeakers', data: ['a'] });
});

test('a server that does not open in time is given up', async () => {
  const opening = WebSocketChannel.open('ws://x/ws', { meetingId: 'm', participantId: 'p' });
  const rejected = expect(opening).rejects.toMatchObject({ code: 'server-unreachable' });
  await vi.advanceTimersByTimeAsync(10_000);
  await rejected;
});

/** What the server says to who asks without an upgrade. */
function answering(status: number, body: unknown) {
  const ask = vi.fn(async (_url: string, _options: RequestInit) => ({
    status,
    json: async () => body,
  }));
  vi.stubGlobal('fetch', ask);
  return ask;
}

test('the token is in the address, and a refusal has the server’s words', async () => {
  const ask = answering(401, { code: 'expired', reason: 'the token expired 61 s ago' });
  const identity = { meetingId: 'm', participantId: 'p' };
  const opening = WebSocketChannel.open('wss://x/ws', identity, { token: 'a.b.c' });
  expect(FakeSocket.last.url).toBe('wss://x/ws?access_token=a.b.c');
  const rejected = expect(opening).rejects.toMatchObject({
    code: 'token-refused',
    message: 'You cannot enter: the token expired 61 s ago.',
  });
  FakeSocket.last.close(1006);
  await rejected;
  const [url, options] = ask.mock.calls[0] ?? [];
  expect(url).toBe('https://x/ws');
  expect(options?.headers).toEqual({ authorization: 'Bearer a.b.c' });
});

test('who has no token is told to look for one; all else is a server out of reach', async () => {
  const identity = { meetingId: 'm', participantId: 'p' };
  const cases = [
    [401, { code: 'missing_token', reason: 'x' }, 'token-refused', /the link that you were given/],
    [426, undefined, 'server-unreachable', /cannot be reached/],
    [403, undefined, 'server-unreachable', /cannot be reached/],
    [403, { reason: 7 }, 'server-unreachable', /cannot be reached/],
  ] as const;
  for (const [status, body, code, words] of cases) {
    answering(status, body);
    const opening = WebSocketChannel.open('ws://x/ws', identity);
    const message = expect.stringMatching(words);
    const rejected = expect(opening).rejects.toMatchObject({ code, message });
    FakeSocket.last.close(1006);
    await rejected;
  }
});
