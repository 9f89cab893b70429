import type { Bytes } from './bytes';
import type { SealableCodec } from './codecs';
import { parseFrame, parseMessage, type Received, restore } from './envelope';
import { baseKey, type Stream, SUITE, tagOf } from './keys';
import { ReplayWindow } from './replay';
import { deriveKey, open, type SframeKey } from './sframe';

/** How long frames of an old key or secret are still taken: what is under way, and people who type. */
export const OLD_KEYS_MS = 10_000;

/** Keys of one stream at a time. A sender rotates at most once a second, and old ones go after ten. */
const MAX_KEYS = 16;

/** Secrets tried for an unknown key: the present one, and those of the last ten seconds. */
const MAX_SECRETS = 4;

/** Epochs of an MLS group have a tag each, and only those with that of the key are tried. */
const MAX_EPOCHS = 16;

/** Streams kept, so that what was played once cannot be played again later; some 200 bytes each. */
const MAX_STREAMS = 4_096;

/** Why a frame was dropped. */
export type DropReason = 'no-key' | 'malformed' | 'not-authentic' | 'replayed' | 'old-key';

/** An opened frame, or why there is none. */
export type Opened = { readonly frame: Bytes } | { readonly drop: DropReason };

interface Secret {
  readonly key: CryptoKey;
  /** Of an MLS group's epoch. */
  readonly tag: number | undefined;
  /** Milliseconds on the caller's clock. */
  retiresAt: number;
}

/** The secrets of a meeting: the present one and, for a while, those before it. */
export class Secrets {
  #held: Secret[] = [];

  /** Newest first. */
  held(now: number): readonly Secret[] {
    this.#held = this.#held.filter(({ retiresAt }) => retiresAt > now);
    return this.#held;
  }

  /** Those that may have sealed under this KID, newest first. */
  of(kid: bigint, now: number): readonly Secret[] {
    const held = this.held(now);
    return held.filter(({ tag }) => tag === undefined || tag === tagOf(kid));
  }

  /** Another set of the same. */
  copy(now: number): Secrets {
    const copy = new Secrets();
    copy.#held = this.held(now).map((secret) => ({ ...secret }));
    return copy;
  }

  /** Exchanges the secret; the one before is held for a while. None at all ends all of them at once. */
  set(key: CryptoKey | undefined, now: number, tag?: number): void {
    const end = key ? now + OLD_KEYS_MS : now;
    for (const secret of this.#held) secret.retiresAt = Math.min(secret.retiresAt, end);
    const added = key ? [{ key, tag, retiresAt: Number.POSITIVE_INFINITY }] : [];
    const most = tag === undefined ? MAX_SECRETS : MAX_EPOCHS;
    this.#held = [...added, ...this.#held].slice(0, most);
  }
}

interface OpeningKey {
  readonly sframe: SframeKey;
  readonly secret: Secret;
}

/** A key that has opened a frame. */
interface ProvenKey extends OpeningKey {
  readonly window: ReplayWindow;
  readonly since: number;
}

/** Opens the frames of one stream: one source of one sender session. Time is in milliseconds of the caller's clock. */
export class StreamOpener {
  readonly #stream: Stream;
  #secrets: Secrets;
  #hasOwnSecrets = false;
  readonly #keys = new Map<bigint, ProvenKey>();
  /** KIDs below it are over. */
  #floor = 0n;
  /** Derived for the last unknown KID, so that a flood of frames nobody can open costs little. */
  #candidate: { kid: bigint; secret: Secret; key: Promise<SframeKey> } | undefined;

  constructor(stream: Stream, secrets: Secrets) {
    this.#stream = stream;
    this.#secrets = secrets;
  }

  /** From now on this stream has a secret of its own. Frames of the one before are opened for a while. */
  setSecret(key: CryptoKey | undefined, now: number): void {
    if (!this.#hasOwnSecrets) this.#secrets = this.#secrets.copy(now);
    this.#hasOwnSecrets = true;
    this.#secrets.set(key, now);
  }

  async open(codec: SealableCodec, frame: Bytes, now: number): Promise<Opened> {
    const received = parseFrame(codec, frame);
    const opened = await this.#open(received, now);
    return received && 'frame' in opened
      ? { frame: restore(codec, received, opened.frame) }
      : opened;
  }

  /** Opens a message of a data channel. */
  openMessage(sealed: Bytes, now: number): Promise<Opened> {
    return this.#open(parseMessage(sealed), now);
  }

  async #open(received: Received | undefined, now: number): Promise<Opened> {
    if (this.#secrets.held(now).length === 0) return { drop: 'no-key' };
    if (!received) return { drop: 'malformed' };
    this.#retire(now);
    const { kid, counter } = received.header;
    const secrets = this.#secrets.of(kid, now);
    if (secrets.length === 0) return { drop: 'no-key' };
    if (kid < this.#floor) return { drop: 'old-key' };
    const known = this.#keys.get(kid);
    if (known && !known.window.isFresh(counter)) return { drop: 'replayed' };
    const isHeld = known && known.secret.retiresAt > now;
    const found = isHeld ? await this.#try(known, received) : await this.#find(secrets, received);
    if (!found) return { drop: 'not-authentic' };
    const proven = this.#adopt(found.key, now);
    // Another frame may have used the counter meanwhile.
    if (!proven.window.record(counter)) return { drop: 'replayed' };
    return { frame: found.plain };
  }

  async #find(
    secrets: readonly Secret[],
    received: Received,
  ): Promise<{ key: OpeningKey; plain: Bytes } | undefined> {
    const { kid } = received.header;
    for (const secret of secrets) {
      const sframe = await this.#derive(secret, kid);
      const found = await this.#try({ sframe, secret }, received);
      if (found) return found;
    }
    return undefined;
  }

  async #try(key: OpeningKey, { header, prefix, sealed }: Received) {
    const plain = await open(key.sframe, header, prefix, sealed);
    return plain && { key, plain };
  }

  #derive(secret: Secret, kid: bigint): Promise<SframeKey> {
    if (this.#candidate?.kid === kid && this.#candidate.secret === secret) {
      return this.#candidate.key;
    }
    const key = baseKey(secret.key, this.#stream, kid).then((base) => deriveKey(SUITE, base, kid));
    this.#candidate = { kid, secret, key };
    return key;
  }

  /** Keeps a key that opened a frame, with the window of its KID, also where another secret filled it. */
  #adopt({ sframe, secret }: OpeningKey, now: number): ProvenKey {
    const known = this.#keys.get(sframe.kid);
    if (known?.secret === secret) return known;
    const { since, window } = known ?? { since: now, window: new ReplayWindow() };
    const proven = { sframe, secret, since, window };
    this.#keys.set(sframe.kid, proven);
    this.#candidate = undefined;
    if (this.#keys.size > MAX_KEYS) this.#raiseFloor(lowest(this.#keys.keys()) + 1n);
    return proven;
  }

  /** An old key ends ten seconds after a newer one was proven. */
  #retire(now: number): void {
    for (const [kid, { since }] of this.#keys) {
      if (since <= now - OLD_KEYS_MS) this.#raiseFloor(kid);
    }
  }

  #raiseFloor(floor: bigint): void {
    if (floor <= this.#floor) return;
    this.#floor = floor;
    for (const kid of this.#keys.keys()) if (kid < floor) this.#keys.delete(kid);
  }
}

/** The openers of a meeting, by stream. They outlive tracks, so that nothing of an earlier one can be played again. */
export class Openers {
  readonly secrets = new Secrets();
  readonly #streams = new Map<string, StreamOpener>();

  of(stream: Stream): StreamOpener {
    const name = JSON.stringify([stream.participantId, [...stream.salt], stream.source]);
    const known = this.#streams.get(name) ?? new StreamOpener(stream, this.secrets);
    // The one that was used least recently goes first.
    this.#streams.delete(name);
    this.#streams.set(name, known);
    const [oldest] = this.#streams.keys();
    if (this.#streams.size > MAX_STREAMS && oldest !== undefined) this.#streams.delete(oldest);
    return known;
  }
}

function lowest(kids: Iterable<bigint>): bigint {
  return [...kids].reduce((least, kid) => (kid < least ? kid : least));
}
