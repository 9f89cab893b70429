/**
 * From what people share to the keys of frames. Nothing here relies on the server: what must differ between two senders
 * or two lives of one is drawn at random by the sender, and what must not be mixed up is part of the derivation.
 */
import { type Bytes, bigEndian, concat, fromBase64Url, toBase64Url, utf8 } from './bytes';
import { digits } from './digits';
import { AES_128_GCM_SHA256_128, type CipherSuite } from './sframe';

/** The suite in use; `appData` carries its number, so that another can follow. */
export const SUITE: CipherSuite = AES_128_GCM_SHA256_128;

/** Of one sender session: without it two of them would use the same keys. */
export const SALT_BYTES = 16;

/** A key of a link has as many bits as the cipher. */
const LINK_KEY_BYTES = 16;
const MAX_LINK_KEY_BYTES = 64;

/** As OWASP recommends for SHA-256 (2023): half a second for a person, years for who tries passphrases. */
export const PBKDF2_ITERATIONS = 600_000;

const BASE_KEY_BYTES = 32;

/** Known to everyone in the meeting, and not to the server. */
export type SharedSecret =
  | { readonly kind: 'key'; readonly bytes: Bytes }
  | { readonly kind: 'passphrase'; readonly text: string };

/** Keys are those of an MLS group of all who are in the meeting: nobody need know anything beforehand. */
export interface MlsKeys {
  readonly kind: 'mls';
}

/** What an epoch of an MLS group gives to its members. */
export interface EpochSecret {
  readonly kind: 'epoch';
  readonly bytes: Bytes;
  /** Which group and epoch it is of, in a byte: the end of the KIDs under it. */
  readonly tag: number;
}

/** The end of a KID that says of which epoch it is (E of RFC 9605 §5.2): who has not got there yet knows that it waits. */
export const TAG_BITS = 8;

/** The tag in a KID. */
export function tagOf(kid: bigint): number {
  return Number(BigInt.asUintN(TAG_BITS, kid));
}

/** A new key for a link. */
export function newLinkKey(): string {
  return toBase64Url(crypto.getRandomValues(new Uint8Array(LINK_KEY_BYTES)));
}

/** The secret of a link's `#k=…`; `undefined` if that is no key. */
export function secretOfLinkKey(text: string): SharedSecret | undefined {
  const bytes = fromBase64Url(text);
  if (!bytes || bytes.length < LINK_KEY_BYTES || bytes.length > MAX_LINK_KEY_BYTES)
    return undefined;
  return { kind: 'key', bytes };
}

/**
 * The secret of a passphrase; `undefined` if it is empty. Letters that look the same are the same, and spaces around it
 * do not count.
 */
export function secretOfPassphrase(text: string): SharedSecret | undefined {
  const normal = text.normalize('NFKC').trim();
  return normal === '' ? undefined : { kind: 'passphrase', text: normal };
}

/** Makes a secret ready for derivations. Slow for a passphrase, on purpose. */
export async function importSecret(
  secret: SharedSecret | EpochSecret,
  meetingId: string,
): Promise<CryptoKey> {
  const bytes = 'bytes' in secret ? secret.bytes : await stretch(secret.text, meetingId);
  return crypto.subtle.importKey('raw', bytes, 'HKDF', false, ['deriveBits']);
}

async function stretch(passphrase: string, meetingId: string): Promise<Bytes> {
  const key = await crypto.subtle.importKey('raw', utf8(passphrase), 'PBKDF2', false, [
    'deriveBits',
  ]);
  // The meeting is in the salt, so that nobody can try passphrases for all meetings at once.
  const salt = utf8(`OpenCall E2EE passphrase\0${meetingId}`);
  const pbkdf2 = { name: 'PBKDF2', hash: 'SHA-256', salt, iterations: PBKDF2_ITERATIONS };
  return new Uint8Array(await crypto.subtle.deriveBits(pbkdf2, key, BASE_KEY_BYTES * 8));
}

/** Whose frames a key seals. */
export interface Stream {
  readonly participantId: string;
  /** Drawn by the sender session. */
  readonly salt: Bytes;
  /** `camera`, `microphone`, …: the server cannot pass one off as another. */
  readonly source: string;
}

/** The base key (RFC 9605 §4.4.2) of one stream in one epoch; the epoch is the KID. */
export async function baseKey(secret: CryptoKey, stream: Stream, epoch: bigint): Promise<Bytes> {
  const info = concat(
    utf8('OpenCall E2EE base key 1\0'),
    bigEndian(BigInt(SUITE.id), 2),
    bigEndian(epoch, 8),
    field(stream.participantId),
    field(stream.source),
  );
  const hkdf = { name: 'HKDF', hash: 'SHA-256', salt: stream.salt, info };
  return new Uint8Array(await crypto.subtle.deriveBits(hkdf, secret, BASE_KEY_BYTES * 8));
}

/** Someone who sends: a part of the code that people compare. */
export interface CodeMember {
  readonly participantId: string;
  readonly salt: Bytes;
}

/**
 * The code that people compare: equal for two of them if they hold the same secret and receive the same sender sessions
 * of the same people. Six groups of five digits.
 */
export async function safetyCode(
  secret: CryptoKey,
  members: readonly CodeMember[],
): Promise<string> {
  const fields = members
    .map(({ participantId, salt }) => concat(field(participantId), salt))
    .sort(compareBytes);
  const digest = await crypto.subtle.digest('SHA-256', concat(...fields));
  const info = concat(utf8('OpenCall E2EE safety code 1\0'), new Uint8Array(digest));
  return digits(secret, info);
}

/** A text with its length in front, so that two of them cannot be cut another way. */
function field(text: string): Bytes {
  const bytes = utf8(text);
  return concat(bigEndian(BigInt(bytes.length), 4), bytes);
}

function compareBytes(left: Uint8Array, right: Uint8Array): number {
  for (let at = 0; at < Math.min(left.length, right.length); at += 1) {
    const difference = (left[at] ?? 0) - (right[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}
