/** What of encryption is known before it is loaded, which happens where it is switched on. */
import { fromBase64Url } from './bytes';
import { type MlsKeys, SALT_BYTES, type SharedSecret, SUITE } from './keys';

/** How to encrypt. */
export interface EncryptionOptions {
  /**
   * Shared by all in the meeting, or `{ kind: 'mls' }` for keys of an MLS group of those who are in it. It can be set
   * later, and until then nothing is sent and nothing played.
   */
  secret?: SharedSecret | MlsKeys | undefined;
  /** New keys at least this often, besides those on each join and leave. Ten minutes if left out. */
  rotateEveryMs?: number;
  /** Starts the bundled worker in another way, where the bundler does not know `new URL(…, import.meta.url)`. */
  createWorker?: () => Worker;
}

/** `appData.e2ee` of a producer: how its frames are sealed. */
export interface Announcement {
  readonly version: 1;
  readonly suite: number;
  readonly salt: string;
}

/** Someone who joins or leaves in between waits for the next rotation: big meetings come in bursts. */
export const ROTATION_PAUSE_MS = 1_000;

const DEFAULT_ROTATE_EVERY_MS = 600_000;

/** Whether this browser lets a worker see encoded frames. */
export function canEncrypt(): boolean {
  return typeof RTCRtpScriptTransform === 'function' && globalThis.crypto?.subtle !== undefined;
}

/** Reads `appData.e2ee`; `undefined`: the producer does not claim to be encrypted, or in no way that is known here. */
export function readAnnouncement(
  appData: Record<string, unknown> | undefined,
): Uint8Array<ArrayBuffer> | undefined {
  const e2ee = appData?.e2ee as Partial<Announcement> | null | undefined;
  if (typeof e2ee !== 'object' || e2ee === null) return undefined;
  if (e2ee.version !== 1 || e2ee.suite !== SUITE.id || typeof e2ee.salt !== 'string') {
    return undefined;
  }
  const salt = fromBase64Url(e2ee.salt);
  return salt?.length === SALT_BYTES ? salt : undefined;
}

/** Milliseconds between one key and the next. */
export function rotationOf({ rotateEveryMs = DEFAULT_ROTATE_EVERY_MS }: EncryptionOptions): number {
  return Math.max(ROTATION_PAUSE_MS, rotateEveryMs);
}
