/** @packageDocumentation End-to-end encryption of media: SFrame (RFC 9605) in a worker. */
export { Encryption } from './encryption';
export {
  type EpochSecret,
  type MlsKeys,
  newLinkKey,
  type SharedSecret,
  secretOfLinkKey,
  secretOfPassphrase,
} from './keys';
export type { FrameCounts, MessageStream, TrackState } from './messages';
export {
  canEncrypt,
  type EncryptionOptions,
  readAnnouncement,
  rotationOf,
} from './options';
