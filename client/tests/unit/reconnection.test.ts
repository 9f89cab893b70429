import { FakeMediaStreamTrack } from 'fake-mediastreamtrack';
import type { Device } from 'mediasoup-client';
import * as fake from 'mediasoup-client/fakeParameters';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { MediasoupReconnectionService, MediasoupService } from '../../src/opencall/index';
import { handlers, makeDevice } from './fake-server';

class NodeService extends MediasoupService {
  protected override makeDevice(): Promise<Device> {
    return makeDevice();
  }
}

/** The server as an application asks it: what is produced stays until it is closed, by whatever transport it came. */
class Server {
  readonly asked: string[] = [];
  /** Kinds, by id. */
  readonly producers = new Map<string, string>();
  readonly consumers = new Set<string>();
  /** Whether answers come; else they wait until they do. */
  isHeld = (_name: string): boolean => false;
  refuses = (_name: string, _data: Record<string, unknown>): boolean => false;
  readonly #waiting: (() => void)[] = [];
  #lastId = 0;

  // biome-ignore lint/suspicious/noExplicitAny: as the application has it
  readonly sendMessage = async (type: string, data: any): Promise<any> => {
    const name = type.replace('mediasoup:', '');
    this.asked.push(name);
    if (this.isHeld(name)) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    if (this.refuses(name, data)) throw new Error(`no ${name}`);
    return this.#answer(name, data);
  };

  /** All that waits is answered. */
  release(): void {
    this.isHeld = () => false;
    for (const go of this.#waiting.splice(0)) go();
  }

  count(name: string): number {
    return this.asked.filter((one) => one === name).length;
  }

  #answer(name: string, data: Record<string, string>): unknown {
    switch (name) {
      case 'getRouterCapabilities':
        return fake.generateRouterRtpCapabilities();
      case 'createTransport':
        return fake.generateTransportRemoteParameters();
      case 'produce': {
        this.#lastId += 1;
        const producerId = `p${this.#lastId}`;
        this.producers.set(producerId, data.kind ?? '');
        return { producerId };
      }
      case 'closeProducer':
        if (!this.producers.delete(data.producerId ?? '')) throw new Error('unknown producer');
        return {};
      case 'consume': {
        this.#lastId += 1;
        const id = `c${this.#lastId}`;
        this.consumers.add(id);
        const options = fake.generateConsumerRemoteParameters({ id, codecMimeType: 'audio/opus' });
        const { kind, rtpParameters } = options;
        return { id, producerId: data.producerId, kind, rtpParameters };
      }
      case 'closeConsumer':
        this.consumers.delete(data.consumerId ?? '');
        return {};
      default:
        return {};
    }
  }
}

let server: Server;
let service: NodeService;
let recovery: MediasoupReconnectionService;
let tracks: FakeMediaStreamTrack[];

beforeEach(async () => {
  vi.useFakeTimers();
  handlers.length = 0;
  server = new Server();
  service = new NodeService({ sendMessage: server.sendMessage });
  const ask = (name: string, data: object) => server.sendMessage(`mediasoup:${name}`, data);
  await service.initialize(await ask('getRouterCapabilities', {}));
  const done = async () => undefined;
  await service.createSendTransport(
    await ask('createTransport', {}),
    done,
    async (data) => (await ask('produce', data)).producerId,
  );
  await service.createRecvTransport(await ask('createTransport', {}), done);
  tracks = (['audio', 'video'] as const).map((kind) => new FakeMediaStreamTrack({ kind }));
  for (const track of tracks) await service.produce(track as unknown as MediaStreamTrack);
  await service.consume(await ask('consume', { producerId: 'other' }));
  server.asked.length = 0;
  recovery = new MediasoupReconnectionService(service, server.sendMessage);
});

afterEach(() => {
  recovery.dispose();
  service.close();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

/** Everything is as before: each track is sent once, by what the service has, and goes on. */
function expectWhole(): void {
  expect(recovery.getReconnectionState().isReconnecting).toBe(false);
  expect([...server.producers.values()].sort()).toEqual(['audio', 'video']);
  const own = service.getAllProducers();
  expect(own.map(({ id }) => id).sort()).toEqual([...server.producers.keys()].sort());
  expect(own.map(({ track }) => track)).toEqual(tracks);
  expect(tracks.map(({ readyState }) => readyState)).toEqual(['live', 'live']);
  expect(service.getAllConsumers()).toHaveLength(1);
}

test('attempts that came to nothing in time stay so when they are answered: each track is sent once', async () => {
  server.isHeld = () => true;
  const over = recovery.startReconnection();
  await vi.advanceTimersByTimeAsync(25_000);
  expect(server.count('getRouterCapabilities')).toBe(3);
  server.release();
  await over;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(server.count('produce')).toBe(2);
  expect(server.count('consume')).toBe(1);
  expectWhole();
});

test.each(['produce', 'consume', 'closeProducer', 'setRtpCapabilities'])(
  'what is answered to %s too late is closed, and nothing follows it',
  async (held) => {
    server.isHeld = (name) => name === held;
    const over = recovery.startReconnection();
    await vi.advanceTimersByTimeAsync(10_500);
    server.isHeld = () => false;
    await vi.advanceTimersByTimeAsync(2_000);
    await over;
    server.release();
    await vi.advanceTimersByTimeAsync(60_000);
    expectWhole();
    // That of before is the server's to close with its transport; of the attempts only the last one's is left.
    expect([...server.consumers].slice(1)).toEqual(service.getAllConsumers().map(({ id }) => id));
  },
);

test('an attempt that fails in the middle ends no track, and leaves none of its own behind', async () => {
  let refusals = 2;
  server.refuses = (name, { kind }) => {
    if (name !== 'produce' || kind !== 'video' || refusals === 0) return false;
    refusals -= 1;
    return true;
  };
  const over = recovery.startReconnection();
  await vi.advanceTimersByTimeAsync(10_000);
  await over;
  expect(recovery.getReconnectionState().retryCount).toBe(3);
  expectWhole();
});

test('the transports of before are closed, and not before the server has made others', async () => {
  const before = handlers.slice();
  const seen: number[] = [];
  server.refuses = (name) => {
    if (name !== 'produce') seen.push(before.filter(({ close }) => !isCalled(close)).length);
    return false;
  };
  await recovery.startReconnection();
  expect(server.asked.slice(0, 4)).toEqual([
    ...['getRouterCapabilities', 'setRtpCapabilities', 'createTransport', 'createTransport'],
  ]);
  // Whoever has closed all has left, to the server.
  expect(seen.slice(0, 4)).toEqual([2, 2, 2, 2]);
  expect(before.map(({ close }) => isCalled(close))).toEqual([true, true]);
  expect(handlers.map(({ close }) => isCalled(close))).toEqual([true, true, false, false]);
});

test.each(['given up', 'stopped'] as const)(
  'of a reconnection that is %s nothing stays behind, and the next sends the same tracks',
  async (how) => {
    const ended = vi.fn();
    recovery.on('reconnection:failed', ended);
    recovery.on('reconnection:stopped', ended);
    server.refuses = (name) => name === 'consume';
    server.isHeld = (name) => name === 'consume';
    const over = recovery.startReconnection();
    await vi.advanceTimersByTimeAsync(how === 'stopped' ? 15_000 : 600_000);
    if (how === 'stopped') recovery.stopReconnection();
    await over;
    expect(ended).toHaveBeenCalledTimes(1);
    expect(handlers.length).toBeGreaterThan(2);
    for (const { close } of handlers) expect(isCalled(close)).toBe(true);
    expect(server.producers.size).toBe(0);
    expect(tracks.map(({ readyState }) => readyState)).toEqual(['live', 'live']);
    server.refuses = () => false;
    server.release();
    await vi.advanceTimersByTimeAsync(0);
    await recovery.startReconnection();
    expectWhole();
  },
);

test.each(['stopReconnection', 'dispose'] as const)(
  'whoever waits for a reconnection waits no longer than until %s',
  async (end) => {
    for (const afterMs of [1_000, 10_200]) {
      server.isHeld = () => true;
      const over = recovery.startReconnection();
      // In an attempt, and in the pause before the next.
      await vi.advanceTimersByTimeAsync(afterMs);
      recovery[end]();
      await over;
      expect(recovery.getReconnectionState().isReconnecting).toBe(false);
    }
    expect(vi.getTimerCount()).toBe(0);
  },
);

test('a reconnection that is stopped before it closed anything leaves all as it was', async () => {
  server.isHeld = () => true;
  const over = recovery.startReconnection();
  await vi.advanceTimersByTimeAsync(1_000);
  recovery.stopReconnection();
  server.release();
  await over;
  for (const { close } of handlers) expect(isCalled(close)).toBe(false);
  expectWhole();
});

test('tracks that nothing sends any more end with the service; those of others never', async () => {
  const theirs = new FakeMediaStreamTrack({ kind: 'audio' });
  await service.produce(theirs as unknown as MediaStreamTrack, { stopTracks: false });
  await recovery.startReconnection();
  for (const producer of service.getAllProducers()) if (producer.track === theirs) producer.close();
  expect(theirs.readyState).toBe('live');
  server.refuses = (name) => name === 'produce';
  const over = recovery.startReconnection();
  await vi.advanceTimersByTimeAsync(600_000);
  await over;
  expect(service.getAllProducers()).toEqual([]);
  expect(tracks.map(({ readyState }) => readyState)).toEqual(['live', 'live']);
  service.close();
  expect(tracks.map(({ readyState }) => readyState)).toEqual(['ended', 'ended']);
  expect(theirs.readyState).toBe('live');
});

test('after a reconnection other tracks are sent', async () => {
  await recovery.startReconnection();
  expectWhole();
  const track = new FakeMediaStreamTrack({ kind: 'audio' }) as unknown as MediaStreamTrack;
  const producer = await service.produce(track);
  expect(server.producers.has(producer.id)).toBe(true);
});

test('a device that was unplugged between two attempts does not keep the others away', async () => {
  server.isHeld = () => true;
  const over = recovery.startReconnection();
  await vi.advanceTimersByTimeAsync(5_000);
  tracks[1]?.remoteStop();
  server.release();
  await over;
  expect(recovery.getReconnectionState()).toMatchObject({ isReconnecting: false, retryCount: 1 });
  expect([...server.producers.values()]).toEqual(['audio']);
});

test('a device that cannot take the place of one that was unplugged does not stay on', async () => {
  const [other] = fakeDevices([new FakeMediaStreamTrack({ kind: 'video' })]);
  const failed = new Promise((resolve) => recovery.on('producer:replaceTrackFailed', resolve));
  const [, camera] = service.getAllProducers();
  if (!camera) throw new Error('nothing is sent');
  camera.replaceTrack = () => Promise.reject(new Error('the path is gone'));
  tracks[1]?.remoteStop();
  expect(await failed).toMatchObject({ producerId: camera.id });
  expect(other?.readyState).toBe('ended');
});

test('a screen that cannot be sent is shared with nobody, and the browser does not go on saying so', async () => {
  const [screen] = fakeDevices([new FakeMediaStreamTrack({ kind: 'video' })]);
  server.refuses = (name) => name === 'produce';
  await expect(service.shareScreen()).rejects.toThrow('no produce');
  expect(screen?.readyState).toBe('ended');
});

/** Whether a handler, of those that `fake-server` watches, was closed. */
function isCalled(close: unknown): boolean {
  return vi.mocked(close as () => void).mock.calls.length > 0;
}

/** What the browser opens next. */
function fakeDevices(opened: FakeMediaStreamTrack[]): FakeMediaStreamTrack[] {
  const open = async () => ({ getTracks: () => opened, getVideoTracks: () => opened });
  vi.stubGlobal('navigator', { mediaDevices: { getUserMedia: open, getDisplayMedia: open } });
  return opened;
}
