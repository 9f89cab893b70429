import type { types } from 'mediasoup-client';
import { expectTypeOf, test } from 'vitest';
import {
  EncryptedMediasoupService as Encrypted,
  type EncryptedMediasoupService,
  MediasoupMeeting,
  type MediasoupReconnectionService,
  type MediasoupService,
  MediasoupReconnectionService as Reconnection,
  useMediasoup,
} from '../../src/index';

/** Names and shapes as OpenCall's application uses them. Checked by the compiler; nothing runs. */
test('the five names have the shapes that OpenCall’s application uses', () => {
  type Service = MediasoupService;
  expectTypeOf<Service['initialize']>().parameter(0).toEqualTypeOf<types.RtpCapabilities>();
  expectTypeOf<Service['getRtpCapabilities']>().returns.toEqualTypeOf<
    types.RtpCapabilities | undefined
  >();
  expectTypeOf<Service['createSendTransport']>().parameters.toExtend<
    [types.TransportOptions, unknown, unknown, unknown?]
  >();
  expectTypeOf<Service['createRecvTransport']>()
    .parameter(0)
    .toEqualTypeOf<types.TransportOptions>();
  expectTypeOf<Service['produce']>().returns.resolves.toEqualTypeOf<types.Producer>();
  expectTypeOf<Service['consume']>().returns.resolves.toEqualTypeOf<types.Consumer>();
  expectTypeOf<Service['produceData']>().returns.resolves.toEqualTypeOf<types.DataProducer>();
  expectTypeOf<Service['consumeData']>().returns.resolves.toEqualTypeOf<types.DataConsumer>();
  expectTypeOf<Service['setLocalStream']>().toEqualTypeOf<(stream: MediaStream) => Promise<void>>();
  expectTypeOf<Service['shareScreen']>().toEqualTypeOf<() => Promise<types.Producer | null>>();
  type ById = (id: string) => Promise<void>;
  type Ids = 'pauseProducer' | 'resumeProducer' | 'pauseConsumer' | 'resumeConsumer';
  expectTypeOf<Service[Ids]>().toEqualTypeOf<ById>();
  expectTypeOf<Service['setConsumerPreferredLayers']>().toBeCallableWith('c', { spatialLayer: 1 });
  expectTypeOf<Service['setConsumerPriority']>().toBeCallableWith('c', 2);
  expectTypeOf<Service['getProducer']>().returns.toEqualTypeOf<types.Producer | undefined>();
  expectTypeOf<Service['getConsumer']>().returns.toEqualTypeOf<types.Consumer | undefined>();
  expectTypeOf<Service['getDataProducer']>().returns.toEqualTypeOf<
    types.DataProducer | undefined
  >();
  expectTypeOf<Service['getDataConsumer']>().returns.toEqualTypeOf<
    types.DataConsumer | undefined
  >();
  expectTypeOf<Service['getAllProducers']>().returns.toEqualTypeOf<types.Producer[]>();
  expectTypeOf<Service['getAllConsumers']>().returns.toEqualTypeOf<types.Consumer[]>();
  expectTypeOf<Service['getStats']>().returns.resolves.toExtend<{ producers: { id: string }[] }>();
  expectTypeOf<Service['restartIce']>().toBeCallableWith('send');
  expectTypeOf<Service['close']>().toEqualTypeOf<() => void>();

  const listen = (service: Service) => {
    service.on('sendTransport:connectionstatechange', (state: types.ConnectionState) => state);
    service.on('recvTransport:connectionstatechange', (state: types.ConnectionState) => state);
    service.on('transport:failed', (direction: 'send' | 'recv') => direction);
    service.on('producer:trackended', (producerId: string) => producerId);
    service.on('dataConsumer:message', ({ dataConsumerId, message }) => [dataConsumerId, message]);
    service.on('screenShare:ended', () => undefined);
    // @ts-expect-error there is no such event
    service.on('nonsense', () => undefined);
  };
  expectTypeOf(listen).toBeFunction();

  expectTypeOf(Encrypted).toBeConstructibleWith({
    enableE2E: true,
    keyRotationInterval: 60_000,
    encryptionAlgorithm: 'AES-GCM',
  });
  expectTypeOf<EncryptedMediasoupService>().toExtend<MediasoupService>();
  expectTypeOf<EncryptedMediasoupService['setDecryptionKey']>().toBeCallableWith(
    'key',
    new ArrayBuffer(32),
    'consumer',
  );
  const rotated = (service: EncryptedMediasoupService) =>
    service.on('keyRotation', ({ keyId, key }: { keyId: string; key: ArrayBuffer }) => [
      keyId,
      key,
    ]);
  expectTypeOf(rotated).toBeFunction();

  expectTypeOf(Reconnection).toBeConstructibleWith(
    {} as MediasoupService,
    async (_type: string, _data: object) => ({}),
    {
      maxRetries: 10,
      initialDelay: 1_000,
      maxDelay: 30_000,
      backoffMultiplier: 1.5,
      connectionTimeout: 10_000,
      enableAutoReconnect: true,
    },
  );
  const recover = (service: MediasoupReconnectionService) => {
    service.on('reconnection:started', () => undefined);
    service.on('reconnection:attempt', ({ attempt, maxAttempts, nextRetryIn }) => [
      attempt,
      maxAttempts,
      nextRetryIn,
    ]);
    service.on('reconnection:success', ({ attempts, duration }) => [attempts, duration]);
    service.on('reconnection:failed', ({ error }: { error: Error }) => error);
    service.on('reconnection:stopped', () => undefined);
    service.on('ice:restarted', ({ direction }) => direction);
    service.on('transport:warning', ({ direction, state }) => [direction, state]);
    service.on('transport:recovered', ({ direction }) => direction);
    service.on('transport:error', ({ direction, error }) => [direction, error]);
    service.on('producer:trackReplaced', ({ producerId, track }) => [producerId, track]);
    service.setAutoReconnect(false);
    service.dispose();
    return service.getReconnectionState().isReconnecting;
  };
  expectTypeOf(recover).returns.toEqualTypeOf<boolean>();

  expectTypeOf(useMediasoup).toBeCallableWith({
    meetingId: 'm',
    participantId: 'p',
    enableAudio: true,
    enableVideo: true,
    enableDataChannel: true,
  });
  expectTypeOf(useMediasoup).returns.toExtend<{
    isInitialized: boolean;
    isConnected: boolean;
    localStream: MediaStream | null;
    remoteStreams: ReadonlyMap<string, MediaStream>;
    activeSpeakers: readonly string[];
    connectionQuality: 'excellent' | 'good' | 'poor' | 'disconnected';
    toggleAudio: () => Promise<void>;
    toggleVideo: () => Promise<void>;
    shareScreen: () => Promise<unknown>;
    sendData: (data: unknown) => unknown;
    setConsumerQuality: (id: string, quality: 'high' | 'medium' | 'low') => Promise<void>;
    cleanup: () => void;
  }>();
  expectTypeOf(MediasoupMeeting).toBeCallableWith({
    meetingId: 'm',
    participantId: 'p',
    displayName: 'P',
    enableEncryption: true,
    onLeave: () => undefined,
  });
});
