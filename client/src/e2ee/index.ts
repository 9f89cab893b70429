/** @packageDocumentation End-to-end encryption of media: SFrame (RFC 9605) in a worker. */
export {
  canEncrypt,
  Encryption,
  type EncryptionOptions,
  readAnnouncement,
} from './encryption';
export {
  newLinkKey,
  type SharedSecret,
  secretOfLinkKey,
  secretOfPassphrase,
} from './keys';
export type { FrameCounts, MessageStream, TrackState } from './messages';
