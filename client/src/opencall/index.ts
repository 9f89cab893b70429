export {
  EncryptedMediasoupService,
  type EncryptionConfig,
} from './EncryptedMediasoupService';
export {
  MediasoupReconnectionService,
  type ReconnectionConfig,
  type ReconnectionEvents,
  type ReconnectionState,
} from './MediasoupReconnectionService';
export {
  MediasoupService,
  type MediasoupServiceEvents,
  type MediasoupServiceStats,
  type ProduceDataOptions,
  type ProduceOptions,
  type SendMessage,
  type TransportDirection,
} from './MediasoupService';
