/** @packageDocumentation OpenCall meetings without a framework. */
export type { ChatMessage, Message, MessageDrop, Reaction } from '../data/conversation';
export type { FileState, SharedFile } from '../data/files/types';
export { MAX_CHAT_LENGTH } from '../data/wire';
export {
  canEncrypt,
  type EncryptionOptions,
  type FrameCounts,
  type MlsKeys,
  newLinkKey,
  type SharedSecret,
  secretOfLinkKey,
  secretOfPassphrase,
} from '../e2ee/index';
export { type BackoffOptions, backoffDelayMs, DEFAULT_BACKOFF } from './backoff';
export type { Caption } from './captions';
export { spatialLayerFor } from './encodings';
export { type ErrorFacts, MeetingError, type MeetingErrorCode } from './errors';
export type { Mutable, WaitingParticipant } from './hosting';
export { constraintsOf, type DeviceStatus, type GivenTracks, type LocalSource } from './localMedia';
export {
  Meeting,
  type MeetingEvents,
  type MeetingOptions,
  type MeetingSnapshot,
  type MeetingStatus,
} from './meeting';
export type { EncryptionSnapshot } from './meetingEncryption';
export type { EncryptionState, Media, Participant, Source } from './participants';
export type {
  CodecAdvice,
  ConnectionQuality,
  Layers,
  Rights,
  SourceName,
} from './protocol';
export type { RemoteTrack } from './receiver';
export {
  type SignalingChannel,
  sameOriginUrl,
  WebSocketChannel,
} from './signaling';
export type { OnStage } from './slots';
export { readToken, type TokenClaims } from './token';
