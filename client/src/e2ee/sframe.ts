/** SFrame, RFC 9605: one sealed frame is `header ‖ AEAD ciphertext ‖ tag`. */
import { type Bytes, bigEndian, concat, utf8 } from './bytes';

/** A cipher suite of RFC 9605 §4.5; the AEAD suites, which every browser's WebCrypto has. */
export interface CipherSuite {
  /** As registered with IANA. */
  readonly id: number;
  readonly hash: 'SHA-256' | 'SHA-512';
  /** Nk. */
  readonly keyBytes: number;
}

export const AES_128_GCM_SHA256_128: CipherSuite = { id: 4, hash: 'SHA-256', keyBytes: 16 };
export const AES_256_GCM_SHA512_128: CipherSuite = { id: 5, hash: 'SHA-512', keyBytes: 32 };

/** Nt: the tag is never cut. */
export const TAG_BYTES = 16;

/** Nn. */
const NONCE_BYTES = 12;

/** KID and CTR are 64-bit (RFC 9605 §4.3). */
const MAX_FIELD_BYTES = 8;

/** A parsed header. */
export interface Header {
  readonly kid: bigint;
  readonly counter: bigint;
  /** Bytes. */
  readonly length: number;
}

/** Key and salt of one KID, for one sender. */
export interface SframeKey {
  readonly kid: bigint;
  readonly key: CryptoKey;
  readonly salt: Bytes;
}

/** A header in its shortest form (RFC 9605 §4.3). Both values are below 2^64. */
export function encodeHeader(kid: bigint, counter: bigint): Bytes {
  const [kidBits, kidBytes] = encodeField(kid);
  const [counterBits, counterBytes] = encodeField(counter);
  return concat(Uint8Array.of((kidBits << 4) | counterBits), kidBytes, counterBytes);
}

/** Reads the header in front of a sealed frame; `undefined` where the bytes end within it. */
export function decodeHeader(bytes: Uint8Array): Header | undefined {
  const config = bytes[0];
  if (config === undefined) return undefined;
  const kid = decodeField(config >> 4, bytes, 1);
  const counter = kid && decodeField(config & 0xf, bytes, kid.end);
  return counter && { kid: kid.value, counter: counter.value, length: counter.end };
}

/** Derives key and salt of a KID from its base key (RFC 9605 §4.4.2). */
export async function deriveKey(
  suite: CipherSuite,
  baseKey: Bytes,
  kid: bigint,
): Promise<SframeKey> {
  const { key, salt } = await deriveRaw(suite, baseKey, kid);
  const uses: KeyUsage[] = ['encrypt', 'decrypt'];
  return { kid, key: await crypto.subtle.importKey('raw', key, 'AES-GCM', false, uses), salt };
}

/** The bytes of key and salt, which only tests look at. */
export async function deriveRaw(
  suite: CipherSuite,
  baseKey: Bytes,
  kid: bigint,
): Promise<{ key: Bytes; salt: Bytes }> {
  const secret = await crypto.subtle.importKey('raw', baseKey, 'HKDF', false, ['deriveBits']);
  const expand = async (label: string, length: number) => {
    const info = concat(utf8(label), bigEndian(kid, 8), bigEndian(BigInt(suite.id), 2));
    const hkdf = { name: 'HKDF', hash: suite.hash, salt: new Uint8Array(), info };
    return new Uint8Array(await crypto.subtle.deriveBits(hkdf, secret, length * 8));
  };
  return {
    key: await expand('SFrame 1.0 Secret key ', suite.keyBytes),
    salt: await expand('SFrame 1.0 Secret salt ', NONCE_BYTES),
  };
}

/** Seals a frame. The caller never uses a counter twice with one key. */
export async function seal(
  { kid, key, salt }: SframeKey,
  counter: bigint,
  metadata: Uint8Array,
  plain: Bytes,
): Promise<Bytes> {
  const header = encodeHeader(kid, counter);
  const cipher = parameters(salt, counter, concat(header, metadata));
  return concat(header, new Uint8Array(await crypto.subtle.encrypt(cipher, key, plain)));
}

/** Opens a sealed frame; `undefined` if it is not authentic under this key. */
export async function open(
  { key, salt }: SframeKey,
  header: Header,
  metadata: Uint8Array,
  sealed: Bytes,
): Promise<Bytes | undefined> {
  const aad = concat(sealed.subarray(0, header.length), metadata);
  try {
    const cipher = parameters(salt, header.counter, aad);
    const plain = await crypto.subtle.decrypt(cipher, key, sealed.subarray(header.length));
    return new Uint8Array(plain);
  } catch {
    return undefined;
  }
}

function parameters(salt: Bytes, counter: bigint, additionalData: Bytes): AesGcmParams {
  const count = bigEndian(counter, NONCE_BYTES);
  const iv = salt.map((byte, at) => byte ^ (count[at] ?? 0));
  return { name: 'AES-GCM', iv, additionalData, tagLength: TAG_BYTES * 8 };
}

/** Four bits of the config byte and the bytes behind it: small values need none. */
function encodeField(value: bigint): [number, Bytes] {
  if (value < 8n) return [Number(value), new Uint8Array()];
  let length = 1;
  while (value >> BigInt(8 * length)) length += 1;
  if (length > MAX_FIELD_BYTES) throw new RangeError('SFrame: above 64 bits');
  return [8 | (length - 1), bigEndian(value, length)];
}

function decodeField(
  bits: number,
  bytes: Uint8Array,
  begin: number,
): { value: bigint; end: number } | undefined {
  if (bits < 8) return { value: BigInt(bits), end: begin };
  const end = begin + (bits & 7) + 1;
  if (end > bytes.length) return undefined;
  let value = 0n;
  for (const byte of bytes.subarray(begin, end)) value = (value << 8n) | BigInt(byte);
  return { value, end };
}
