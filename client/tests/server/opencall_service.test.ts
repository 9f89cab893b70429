import { FakeMediaStreamTrack } from 'fake-mediastreamtrack';
import { Device } from 'mediasoup-client';
import * as fake from 'mediasoup-client/fakeParameters';
import { FakeHandler } from 'mediasoup-client/handlers/FakeHandler';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MediasoupReconnectionService, MediasoupService } from '../../src/opencall/index';
import { TestServer } from '../browser/support/server';
import { Peer } from './peer';

let server: TestServer;
let rooms = 0;

beforeAll(async () => {
  server = await TestServer.start({ name: 'opencall-service' });
});

afterAll(() => server.stop());

/** A service without a browser; what it is told of its transports is the test's. */
class NodeService extends MediasoupService {
  readonly handlers: FakeHandler[] = [];

  protected override async makeDevice(): Promise<Device> {
    const { factory, ...others } = FakeHandler.createFactory(fake);
    const { handlers } = this;
    return new Device({
      handlerFactory: {
        ...others,
        factory: (options) => {
          const handler = factory(options) as FakeHandler;
          handlers.push(handler);
          return handler;
        },
      },
    });
  }
}

/** OpenCall's application: it asks over its own socket, in its own order, and consumes what it is told of. */
async function application(room: string, participantId: string) {
  const peer = await Peer.connect(server, 'opencall', {});
  const asked: string[] = [];
  const sendMessage = async (type: string, data: object) => {
    const name = type.replace('mediasoup:', '');
    asked.push(name);
    const answer = await peer.ask(name, { meetingId: room, participantId, ...data });
    if (answer.reason) throw new Error(answer.reason);
    // biome-ignore lint/suspicious/noExplicitAny: as its own client has it
    return answer.data as any;
  };
  const service = new NodeService({ sendMessage });
  await service.initialize(await sendMessage('mediasoup:getRouterCapabilities', {}));
  await sendMessage('mediasoup:setRtpCapabilities', {
    rtpCapabilities: service.getRtpCapabilities(),
  });
  const send = await sendMessage('mediasoup:createTransport', { direction: 'send' });
  await service.createSendTransport(
    send,
    (data) => sendMessage('mediasoup:connectTransport', { transportId: send.id, ...data }),
    async (data) =>
      (await sendMessage('mediasoup:produce', { transportId: send.id, ...data })).producerId,
    async (data) =>
      (await sendMessage('mediasoup:produceData', { transportId: send.id, ...data }))
        .dataProducerId,
  );
  const recv = await sendMessage('mediasoup:createTransport', { direction: 'recv' });
  await service.createRecvTransport(recv, (data) =>
    sendMessage('mediasoup:connectTransport', { transportId: recv.id, ...data }),
  );
  const consume = async () => {
    const { producerId } = await peer.event('newProducer');
    const rtpCapabilities = service.getRtpCapabilities();
    return service.consume(await sendMessage('mediasoup:consume', { producerId, rtpCapabilities }));
  };
  return { peer, service, asked, sendMessage, consume };
}

function newRoom(): string {
  rooms += 1;
  return `service-${rooms}`;
}

const microphone = () => new FakeMediaStreamTrack({ kind: 'audio' }) as unknown as MediaStreamTrack;
const camera = () => new FakeMediaStreamTrack({ kind: 'video' }) as unknown as MediaStreamTrack;

test('what one application sends another receives, pauses, and asks for in layers', async () => {
  const room = newRoom();
  const ann = await application(room, 'ann');
  const ben = await application(room, 'ben');
  const producer = await ann.service.produce(camera(), { appData: { source: 'webcam' } });
  expect(ann.service.getProducer(producer.id)).toBe(producer);
  const consumer = await ben.consume();
  expect(consumer.producerId).toBe(producer.id);
  expect(ben.service.getAllConsumers()).toEqual([consumer]);
  // The server says it as an event, too.
  const { consumerData } = await ben.peer.event('newConsumer');
  expect(await ben.service.consume(consumerData as never)).toBe(consumer);
  await ben.service.setConsumerPreferredLayers(consumer.id, { spatialLayer: 1, temporalLayer: 1 });
  await ben.service.setConsumerPriority(consumer.id, 3);
  await ann.service.pauseProducer(producer.id);
  expect(producer.paused).toBe(true);
  expect((await ben.peer.event('consumerPaused')).consumerId).toBe(consumer.id);
  await ben.service.pauseConsumer(consumer.id);
  await ben.service.resumeConsumer(consumer.id);
  const before = await ann.service.restartIce('send');
  expect(before.usernameFragment).not.toBe((await ann.service.restartIce('send')).usernameFragment);
  await expect(ben.service.pauseConsumer('nobody')).rejects.toThrow('no consumer nobody');
  for (const { service, peer } of [ann, ben]) {
    service.close();
    await peer.leave();
  }
  expect(ann.service.getAllProducers()).toEqual([]);
});

test('after a failure that no new path mends everything is made anew, muted where it was', async () => {
  const room = newRoom();
  const ann = await application(room, 'ann');
  const ben = await application(room, 'ben');
  const track = microphone();
  const producer = await ann.service.produce(track, { appData: { source: 'microphone' } });
  await ann.service.pauseProducer(producer.id);
  await ben.consume();
  const recovery = new MediasoupReconnectionService(ann.service, ann.sendMessage);
  const events: string[] = [];
  for (const name of [
    'reconnection:started',
    'reconnection:attempt',
    'reconnection:success',
    'reconnection:failed',
  ] as const) {
    recovery.on(name, () => events.push(name));
  }
  await recovery.startReconnection();
  expect(events).toEqual(['reconnection:started', 'reconnection:attempt', 'reconnection:success']);
  expect(recovery.getReconnectionState()).toMatchObject({ isReconnecting: false, retryCount: 1 });
  const [again] = ann.service.getAllProducers();
  expect(again?.id).not.toBe(producer.id);
  expect(again).toMatchObject({ paused: true, track, appData: { source: 'microphone' } });
  expect(track.readyState).toBe('live');
  // The one before is gone from the server, too.
  expect((await ben.peer.event('producerClosed')).producerId).toBe(producer.id);
  recovery.dispose();
  for (const { service, peer } of [ann, ben]) {
    service.close();
    await peer.leave();
  }
  expect(track.readyState).toBe('ended');
});

test('a path that is disturbed is searched anew', async () => {
  const { peer, service, asked, sendMessage } = await application(newRoom(), 'ann');
  const recovery = new MediasoupReconnectionService(service, sendMessage);
  const heard: string[] = [];
  recovery.on('transport:warning', ({ direction, state }) => heard.push(`${direction} ${state}`));
  const recovered = new Promise((resolve) => recovery.on('transport:recovered', resolve));
  const restarted = new Promise((resolve) => recovery.on('ice:restarted', resolve));
  service.handlers[0]?.setConnectionState('connected');
  service.handlers[0]?.setConnectionState('disconnected');
  expect(await restarted).toEqual({ direction: 'send' });
  service.handlers[0]?.setConnectionState('connected');
  expect(await recovered).toEqual({ direction: 'send' });
  expect(heard).toEqual(['send disconnected']);
  expect(asked.filter((name) => name === 'restartIce')).toHaveLength(1);
  recovery.dispose();
  service.close();
  await peer.leave();
});

test('a server that does not answer is tried so often, with growing pauses, and then given up', async () => {
  const { peer, service } = await application(newRoom(), 'ann');
  const nobody = () => Promise.reject(new Error('nobody there'));
  const config = { maxRetries: 3, initialDelay: 10, maxDelay: 20 };
  const recovery = new MediasoupReconnectionService(service, nobody, config);
  const attempts: number[] = [];
  recovery.on('reconnection:attempt', ({ attempt }) => attempts.push(attempt));
  const failed = new Promise<{ error: Error }>((resolve) =>
    recovery.on('reconnection:failed', resolve),
  );
  await recovery.startReconnection();
  expect((await failed).error.message).toBe('nobody there');
  expect(attempts).toEqual([1, 2, 3]);
  recovery.dispose();
  service.close();
  await peer.leave();
});
