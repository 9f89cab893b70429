import { codecOf, type SealableCodec } from '../e2ee/codecs';
import { type Encryption, readAnnouncement } from '../e2ee/index';
import { MeetingError } from './errors';
import { type EncryptionState, sourceOf } from './participants';
import type { ConsumerData, ServerEvents } from './protocol';

/** What is known of the encryption of one track of another participant. */
export interface TrackEncryption {
  participantId: string;
  producerId: string;
  state: EncryptionState;
  /** Of the sender session, where it announces one. */
  salt: Uint8Array<ArrayBuffer> | undefined;
}

/** Hears what is known. */
type Tell = (encryption: TrackEncryption) => void;

/** Whether a producer fits this end's encryption; if not, it is not even asked for. */
export function mayPlay(
  encryption: Encryption | undefined,
  { participantId, producerId, appData }: ServerEvents['newProducer'],
  tell: Tell,
): boolean {
  const isEncrypted = appData?.e2ee !== undefined && appData.e2ee !== null;
  if (!encryption && !isEncrypted) return true;
  const salt = readAnnouncement(appData);
  const tellState = (state: EncryptionState) => tell({ participantId, producerId, state, salt });
  if (encryption && salt) {
    tellState('pending');
    return true;
  }
  if (!isEncrypted) tellState('not-encrypted');
  // Without encryption here it would be noise; in another way than is known here it cannot be opened.
  else tellState(encryption ? 'wrong-key' : 'waiting-for-key');
  return false;
}

/** Decrypts a track that is about to be received; `undefined` where nothing is encrypted. */
export function openingOf(
  encryption: Encryption | undefined,
  { participantId, producerId, kind, appData }: ServerEvents['newProducer'],
  { rtpParameters }: ConsumerData,
  tell: Tell,
) {
  const salt = readAnnouncement(appData);
  if (!encryption || !salt) return undefined;
  const codec: SealableCodec | undefined = codecOf(rtpParameters.codecs[0]?.mimeType);
  if (!codec) throw new MeetingError('encryption-unsupported', 'An unknown codec is not played.');
  const track = {
    participantId,
    source: sourceOf(kind, appData ?? {}),
    salt,
    codec,
    onState: (state: EncryptionState) => tell({ participantId, producerId, state, salt }),
  };
  let release: (() => void) | undefined;
  const onRtpReceiver = (receiver: RTCRtpReceiver) => {
    release = encryption.protectReceiver(receiver, track);
  };
  return {
    options: { onRtpReceiver },
    isOn: () => release !== undefined,
    release: () => release?.(),
  };
}
