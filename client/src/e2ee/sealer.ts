import type { Bytes } from './bytes';
import type { SealableCodec } from './codecs';
import { sealFrame } from './envelope';
import { baseKey, SALT_BYTES, SUITE, TAG_BITS } from './keys';
import { deriveKey, type SframeKey, seal } from './sframe';

/** A key in use. Its counter lives and dies with it, so that none is used twice. */
interface SealingKey {
  readonly sframe: SframeKey;
  nextCounter: bigint;
}

/**
 * Seals what one participant sends. It draws the salt of its session itself and is the only one who counts: whatever the
 * page or the server does, no two frames are sealed with the same key and counter.
 */
export class Sealer {
  /** Announced with each track. */
  readonly salt: Bytes = crypto.getRandomValues(new Uint8Array(SALT_BYTES));
  readonly #participantId: string;
  #secret: CryptoKey | undefined;
  /** Of an MLS group's epoch. */
  #tag: number | undefined;
  /** Of the present keys. It only grows, also where MLS and shared secrets follow each other: openers drop lower ones. */
  #kid = 0n;
  /** Of this epoch, by source. */
  readonly #keys = new Map<string, Promise<SealingKey>>();

  constructor(participantId: string) {
    this.#participantId = participantId;
  }

  /** The KID, but for the tag. */
  get epoch(): bigint {
    return this.#tag === undefined ? this.#kid : this.#kid >> BigInt(TAG_BITS);
  }

  /** From now on frames are sealed under this secret; without one none is sent. `tag` says of which epoch it is. */
  setSecret(secret: CryptoKey | undefined, tag?: number): void {
    this.#secret = secret;
    this.#tag = tag;
    this.rotate();
  }

  /** From now on frames are sealed with new keys. */
  rotate(): void {
    const bits = BigInt(TAG_BITS);
    const tag = this.#tag;
    this.#kid =
      tag === undefined ? this.#kid + 1n : (((this.#kid >> bits) + 1n) << bits) | BigInt(tag);
    this.#keys.clear();
  }

  /** Seals a frame; `undefined` if it cannot be sealed, and so must not be sent. */
  async seal(source: string, codec: SealableCodec, frame: Bytes): Promise<Bytes | undefined> {
    const next = await this.#next(source);
    return next && sealFrame(codec, next.sframe, next.counter, frame);
  }

  /** Seals a message of a data channel: RFC 9605 without metadata. `undefined` if it must not be sent. */
  async sealMessage(source: string, message: Bytes): Promise<Bytes | undefined> {
    const next = await this.#next(source);
    return next && seal(next.sframe, next.counter, new Uint8Array(), message);
  }

  async #next(source: string): Promise<{ sframe: SframeKey; counter: bigint } | undefined> {
    const secret = this.#secret;
    if (!secret) return undefined;
    let promised = this.#keys.get(source);
    if (!promised) {
      promised = this.#derive(secret, source, this.#kid);
      this.#keys.set(source, promised);
    }
    const key = await promised;
    // Taken before anything else can be awaited.
    const counter = key.nextCounter;
    key.nextCounter += 1n;
    return { sframe: key.sframe, counter };
  }

  async #derive(secret: CryptoKey, source: string, kid: bigint): Promise<SealingKey> {
    const stream = { participantId: this.#participantId, salt: this.salt, source };
    const base = await baseKey(secret, stream, kid);
    return { sframe: await deriveKey(SUITE, base, kid), nextCounter: 0n };
  }
}
