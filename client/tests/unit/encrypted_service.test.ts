import { FakeMediaStreamTrack } from 'fake-mediastreamtrack';
import type { Device } from 'mediasoup-client';
import * as fake from 'mediasoup-client/fakeParameters';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { EncryptedMediasoupService, type EncryptionConfig } from '../../src/opencall/index';
import { FRAMES } from './e2ee/frames';
import { makeDevice, transports } from './fake-server';
import { FakeTransform, FakeWorker } from './fake-worker';

class NodeService extends EncryptedMediasoupService {
  protected override makeDevice(): Promise<Device> {
    return makeDevice();
  }
}

const services: NodeService[] = [];

beforeEach(() => {
  transports.length = 0;
  vi.stubGlobal('RTCRtpScriptTransform', FakeTransform);
});

afterEach(() => {
  for (const service of services.splice(0)) service.close();
  vi.unstubAllGlobals();
});

async function started(config: Partial<EncryptionConfig> = {}) {
  const worker = await FakeWorker.load();
  const createWorker = () => worker as unknown as Worker;
  const service = new NodeService({ enableE2E: true, createWorker, ...config });
  services.push(service);
  await connect(service);
  return { service, worker };
}

/** A session of it, the first or another one. */
async function connect(service: NodeService) {
  await service.initialize(fake.generateRouterRtpCapabilities());
  const options = () => fake.generateTransportRemoteParameters();
  const done = async () => undefined;
  let produced = 0;
  const id = async () => {
    produced += 1;
    return `p${produced}`;
  };
  await service.createSendTransport(options(), done, id, id);
  await service.createRecvTransport(options(), done);
}

const microphone = () => new FakeMediaStreamTrack({ kind: 'audio' }) as unknown as MediaStreamTrack;

/** What `consume` of the server answers. */
function consumed(id: string, appData: Record<string, unknown>) {
  const options = fake.generateConsumerRemoteParameters({ id, codecMimeType: 'audio/opus' });
  const { kind, rtpParameters } = options;
  return { id, producerId: 'p1', kind, rtpParameters, appData };
}

/** The way of the newest track through a worker. */
function newest(worker: FakeWorker) {
  const transform = transports.at(-1)?.transform as FakeTransform | undefined;
  if (!transform) throw new Error('no transform was set');
  return worker.track(transform.options);
}

test('a key of one opens for another what it sealed, and for nobody without it', async () => {
  const ann = await started({ keyRotationInterval: 60_000 });
  const keys: { keyId: string; key: ArrayBuffer }[] = [];
  ann.service.on('keyRotation', (rotated) => keys.push(rotated));
  const producer = await ann.service.produce(microphone(), { appData: { source: 'microphone' } });
  const sending = newest(ann.worker);
  expect(keys).toHaveLength(1);
  const sealed = await sending.pass(FRAMES.opus);
  expect(sealed).toBeDefined();
  expect(sealed).not.toEqual(FRAMES.opus);

  const ben = await started();
  await ben.service.consume(consumed('c1', producer.appData));
  const receiving = newest(ben.worker);
  expect(await receiving.pass(sealed as Uint8Array)).toBeUndefined();
  const [rotated] = keys;
  if (!rotated) throw new Error('no key');
  await ben.service.setDecryptionKey(rotated.keyId, rotated.key);
  const again = (await sending.pass(FRAMES.opus)) as Uint8Array;
  expect(await receiving.pass(again)).toEqual(FRAMES.opus);
  const stats = await ben.service.getStats();
  expect(stats.encryption).toMatchObject({ currentKeyId: rotated.keyId });

  const eve = await started();
  await eve.service.setDecryptionKey('guess', new Uint8Array(32).fill(1));
  await eve.service.consume(consumed('c2', producer.appData));
  const next = (await sending.pass(FRAMES.opus)) as Uint8Array;
  expect(await newest(eve.worker).pass(next)).toBeUndefined();
});

test('who rotates keys begins with one in each session, also after the service was closed', async () => {
  const workers = [await FakeWorker.load(), await FakeWorker.load()];
  let made = 0;
  const createWorker = () => {
    made += 1;
    return workers[made - 1] as unknown as Worker;
  };
  const { service } = await started({ keyRotationInterval: 40, createWorker });
  const keys: string[] = [];
  service.on('keyRotation', ({ keyId }) => keys.push(keyId));
  service.close();
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(keys).toEqual([]);
  await connect(service);
  await service.produce(microphone(), { appData: { source: 'microphone' } });
  const sending = newest(workers[1] as FakeWorker);
  expect(await sending.pass(FRAMES.opus)).toBeDefined();
  await vi.waitUntil(() => keys.length > 2);
  // However often it is initialized, one clock, which ends with it.
  await service.initialize(fake.generateRouterRtpCapabilities());
  service.close();
  const known = keys.length;
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(keys).toHaveLength(known);
});

test('a worker that could not be loaded is loaded by whoever tries again', async () => {
  const workers = [await FakeWorker.load(), await FakeWorker.load()];
  const [broken] = workers;
  if (!broken) throw new Error('no worker');
  broken.isDeaf = true;
  const createWorker = () => {
    const worker = workers.shift();
    queueMicrotask(() => {
      if (worker === broken) worker.onerror?.({ message: 'it cannot be loaded' } as ErrorEvent);
    });
    return worker as unknown as Worker;
  };
  const service = new NodeService({ enableE2E: true, createWorker });
  services.push(service);
  await expect(connect(service)).rejects.toThrow('it cannot be loaded');
  expect(broken.isTerminated).toBe(true);
  await connect(service);
  expect(workers).toEqual([]);
});

test('a key for one consumer opens that one alone, also if it comes before it', async () => {
  const [ann, ben, cid] = [await started(), await started(), await started()];
  const keys = [1, 2].map((fill) => new Uint8Array(32).fill(fill));
  const sealed: Uint8Array[] = [];
  const appData: Record<string, unknown>[] = [];
  for (const [n, { service, worker }] of [ann, ben].entries()) {
    await service.setDecryptionKey(`${n}`, keys[n] ?? new Uint8Array());
    const producer = await service.produce(microphone(), { appData: { source: 'microphone' } });
    appData.push(producer.appData);
    sealed.push((await newest(worker).pass(FRAMES.opus)) as Uint8Array);
  }
  await cid.service.setDecryptionKey('0', keys[0] ?? new Uint8Array(), 'c-ann');
  const receiving = [];
  for (const [n, id] of ['c-ann', 'c-ben'].entries()) {
    await cid.service.consume(consumed(id, appData[n] ?? {}));
    receiving.push(newest(cid.worker));
  }
  expect(await receiving[0]?.pass(sealed[0] as Uint8Array)).toEqual(FRAMES.opus);
  expect(await receiving[1]?.pass(sealed[1] as Uint8Array)).toBeUndefined();
  await cid.service.setDecryptionKey('1', keys[1] ?? new Uint8Array(), 'c-ben');
  expect(await receiving[1]?.pass(sealed[1] as Uint8Array)).toEqual(FRAMES.opus);
  // What it sends itself has no key by that.
  await cid.service.produce(microphone(), { appData: { source: 'microphone' } });
  expect(await newest(cid.worker).pass(FRAMES.opus)).toBeUndefined();
  expect((await cid.service.getStats()).encryption.currentKeyId).toBeUndefined();
});

test('messages are sealed and opened in order, text as text and bytes as bytes', async () => {
  const [ann, ben] = [await started(), await started()];
  const key = new Uint8Array(32).fill(3);
  for (const { service } of [ann, ben]) await service.setDecryptionKey('k', key);
  const producer = await ann.service.produceData({ label: 'chat' });
  const channel = (producer as unknown as { _dataChannel: RTCDataChannel })._dataChannel;
  const sent: Uint8Array<ArrayBuffer>[] = [];
  channel.send = (message: unknown) => void sent.push(message as Uint8Array<ArrayBuffer>);
  const messages = ['readable', '', new Uint8Array([1, 2, 3]), new ArrayBuffer(0)];
  for (const message of messages) producer.send(message);
  expect(() => producer.send({})).toThrow('text and bytes');
  await vi.waitUntil(() => sent.length === 4);
  for (const one of sent) expect(Buffer.from(one).toString('latin1')).not.toContain('readable');

  const { id: dataProducerId, label, protocol, appData } = producer;
  const sctpStreamParameters = { streamId: 1, ordered: true };
  const answer = { id: 'd1', dataProducerId, sctpStreamParameters, label, protocol, appData };
  const heard: unknown[] = [];
  ben.service.on('dataConsumer:message', ({ message }) => heard.push(message));
  const consumer = await ben.service.consumeData(answer);
  for (const one of [...sent, sent[0], Uint8Array.of(1)]) {
    consumer.emit('message', (one as Uint8Array).slice().buffer);
  }
  await vi.waitUntil(() => heard.length === 4);
  expect(heard).toEqual([
    'readable',
    '',
    messages[2] && Uint8Array.of(1, 2, 3).buffer,
    messages[3],
  ]);
  // Of another channel it is not.
  const other = await ben.service.consumeData({ ...answer, id: 'd2', label: 'other' });
  other.emit('message', (sent[1] as Uint8Array).slice().buffer);
  await ben.service.getStats();
  expect(heard).toHaveLength(4);
  await expect(ben.service.consumeData({ ...answer, appData: {} })).rejects.toMatchObject({
    code: 'encryption-unsupported',
  });
});

test('without a key nothing is sent, and what is in the clear is not played', async () => {
  const { service, worker } = await started();
  await service.produce(microphone(), { appData: { source: 'microphone' } });
  expect(await newest(worker).pass(FRAMES.opus)).toBeUndefined();
  const code = 'encryption-unsupported';
  await expect(service.consume(consumed('c1', {}))).rejects.toMatchObject({ code });
});

test('a cipher that does not authenticate is refused, and a browser that cannot encrypt is told', async () => {
  const weak = { enableE2E: true, encryptionAlgorithm: 'AES-CTR' } as const;
  expect(() => new NodeService(weak)).toThrow('AES-CTR');
  vi.stubGlobal('RTCRtpScriptTransform', undefined);
  const service = new NodeService({ enableE2E: true });
  services.push(service);
  const code = 'encryption-unsupported';
  await expect(service.initialize(fake.generateRouterRtpCapabilities())).rejects.toMatchObject({
    code,
  });
});

test('without encryption it is the service that it extends', async () => {
  const { service } = await started({ enableE2E: false });
  const producer = await service.produce(microphone());
  expect(producer.appData).toEqual({});
  await service.consume(consumed('c1', {}));
  await expect(service.consume(consumed('c2', { e2ee: {} }))).rejects.toThrow('encrypted');
});
