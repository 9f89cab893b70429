import type { Bytes } from '../../e2ee/bytes';
import { CHUNK_BYTES, type FileOffer } from '../wire';
import { INDEX_BYTES, MAX_WANTED } from './outgoing';
import { ReceivedFile } from './received';
import type { FileHost, FileState } from './types';

/** Without a chunk for so long, or for so many times what they were apart, what is missing is asked for again. */
const STALL_MS = 2_000;
const STALL_INTERVALS = 6;

/** A channel is asked for this often. */
const ASK_MS = 2_000;

/** After so many stalls a file is shown as paused. */
const PAUSED_STALLS = 2;

/** A sender that left may be back with another session, within this time. */
const GONE_MS = 90_000;

/** What is asked for in advance: what comes in so long, within bounds. */
const AHEAD_MS = 2_000;
const MIN_WANTED = 16;

/** Media types that a page may show; as anything else a file of a stranger could be a page of this one's. */
const SAFE_TYPES = /^(?:image\/(?:png|jpeg|gif|webp|avif)|(?:audio|video)\/[\w.+-]+|text\/plain)$/;

/** A file of another participant. */
export class IncomingFile {
  readonly offer: FileOffer;
  readonly from: string;
  readonly #host: FileHost;
  #received: ReceivedFile | undefined;
  #state: FileState = 'offered';
  #isOffered = true;
  #url: string | undefined;
  /** Gives up its channel. */
  #leave: (() => void) | undefined;
  #isTaking = false;
  #isTogether = false;
  /** Chunks before it were asked for. */
  #frontier = 0;
  /** Asked for, and not here yet. */
  #outstanding = 0;
  #aheadChunks = MIN_WANTED;
  #progressAt = 0;
  #intervalMs = 0;
  #transferred = 0;
  #askedAt = Number.NEGATIVE_INFINITY;
  #measured = { at: 0, bytes: 0 };
  #goneAt: number | undefined;

  constructor(offer: FileOffer, from: string, host: FileHost) {
    this.offer = offer;
    this.from = from;
    this.#host = host;
  }

  get state(): FileState {
    return this.#state;
  }

  get transferred(): number {
    return this.#received?.received ?? this.#transferred;
  }

  get url(): string | undefined {
    return this.#url;
  }

  get isActive(): boolean {
    return this.#state === 'running' || this.#state === 'paused';
  }

  /** Its owner has left, and may come back. */
  get isWaitingForOwner(): boolean {
    return this.#goneAt !== undefined && (this.isActive || this.#state === 'offered');
  }

  /** Begins to take it, also once more after it was given up or has failed; `false` if it is not offered any more. */
  accept(now: number): boolean {
    if (this.isActive || this.#state === 'done') return true;
    if (!this.#isOffered) return false;
    this.#isTogether = false;
    this.#frontier = 0;
    this.#outstanding = 0;
    this.#intervalMs = 0;
    this.#received = new ReceivedFile(this.offer.size);
    this.#state = 'running';
    this.#progressAt = now;
    this.#measured = { at: now, bytes: 0 };
    this.#advance(now);
    return true;
  }

  /** A channel with it was offered, or this end is connected again. */
  channelFound(now: number): void {
    if (this.isActive) this.#advance(now);
  }

  /** Its owner is here, and offers it. */
  present(): void {
    this.#goneAt = undefined;
    this.#isOffered = true;
  }

  participantLeft(now: number): void {
    this.#goneAt ??= now;
  }

  /** Its owner offers it no more. */
  withdrawn(): void {
    this.#isOffered = false;
    if (this.isActive || this.#state === 'offered') this.#finish('cancelled');
  }

  /** Wants it no more; one that is done is forgotten. */
  cancel(): void {
    if (this.isActive) this.#stop(false);
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = undefined;
    if (this.#state !== 'failed') this.#finish('cancelled');
  }

  /** The session is lost. */
  lost(): void {
    this.#leave = undefined;
    this.#isTaking = false;
  }

  tick(now: number): void {
    if (this.#goneAt !== undefined && now - this.#goneAt > GONE_MS) {
      this.#isOffered = false;
      this.#goneAt = undefined;
      if (this.isActive) this.#finish('failed');
      else if (this.#state === 'offered') this.#finish('cancelled');
      return;
    }
    if (!this.isActive) return;
    this.#measure(now);
    const silentMs = now - this.#progressAt;
    const stallMs = Math.max(STALL_MS, this.#intervalMs * STALL_INTERVALS);
    this.#show(silentMs > PAUSED_STALLS * stallMs ? 'paused' : 'running');
    if (silentMs < stallMs) return;
    // What was on its way is not any more.
    this.#frontier = 0;
    this.#outstanding = 0;
    this.#advance(now);
  }

  #advance(now: number): void {
    if (!this.#host.isConnected() || this.#isTogether) return;
    if (this.#received?.isWhole) return void this.#assemble();
    if (this.#leave) return this.#ask(now);
    if (!this.#isTaking) void this.#take(now);
  }

  async #take(now: number): Promise<void> {
    this.#isTaking = true;
    const { file } = this.offer;
    let leave: (() => void) | undefined;
    try {
      leave = await this.#host.takeFile(
        this.from,
        file,
        (message) => this.#chunk(message),
        () => this.#ended(),
      );
    } catch (error) {
      console.info('opencall: a file cannot be received at the moment', error);
    }
    this.#isTaking = false;
    if (!this.isActive) return leave?.();
    this.#leave = leave;
    this.#frontier = 0;
    this.#outstanding = 0;
    if (leave) this.#ask(now);
    else if (now - this.#askedAt >= ASK_MS) this.#want(now, []);
  }

  #ended(): void {
    this.#leave = undefined;
  }

  /** Asks for what comes next, when half of what was asked for is here. */
  #ask(now: number): void {
    const received = this.#received;
    if (!received || this.#outstanding > this.#aheadChunks / 2) return;
    const count = this.#aheadChunks - this.#outstanding;
    const ranges = received.missing(this.#frontier, count);
    const last = ranges.at(-1);
    if (!last) return;
    this.#frontier = last[1];
    this.#outstanding += ranges.reduce((sum, [begin, end]) => sum + end - begin, 0);
    this.#want(now, ranges);
  }

  #want(now: number, ranges: readonly (readonly [number, number])[]): void {
    this.#askedAt = now;
    const want = { kind: 'want', to: this.from, file: this.offer.file, ranges } as const;
    this.#host.send(want).catch((error) => {
      console.info('opencall: a file is asked for again later', error);
    });
  }

  #chunk(message: Bytes): void {
    const received = this.#received;
    if (!received || !this.isActive || message.length < INDEX_BYTES) return;
    const index = new DataView(message.buffer, message.byteOffset).getUint32(0);
    if (!received.take(index, message.subarray(INDEX_BYTES))) return;
    const now = Date.now();
    this.#intervalMs += (now - this.#progressAt - this.#intervalMs) / 4;
    this.#progressAt = now;
    if (index < this.#frontier) this.#outstanding = Math.max(0, this.#outstanding - 1);
    this.#state = 'running';
    this.#host.changed();
    this.#advance(now);
  }

  /** How much comes in a second says how much to ask for. */
  #measure(now: number): void {
    const elapsedMs = now - this.#measured.at;
    if (elapsedMs < 500) return;
    const bytes = this.transferred - this.#measured.bytes;
    const chunks = ((bytes / elapsedMs) * AHEAD_MS) / CHUNK_BYTES;
    this.#aheadChunks = Math.min(MAX_WANTED, Math.max(MIN_WANTED, Math.ceil(chunks)));
    this.#measured = { at: now, bytes: this.transferred };
  }

  async #assemble(): Promise<void> {
    this.#isTogether = true;
    const type = SAFE_TYPES.test(this.offer.type) ? this.offer.type : 'application/octet-stream';
    const blob = await this.#received
      ?.assemble(this.offer.hash, type)
      .catch((error) => console.warn('opencall: a file cannot be put together', error));
    if (!this.isActive) return;
    this.#stop(blob !== undefined);
    if (blob) this.#url = URL.createObjectURL(blob);
    this.#finish(blob ? 'done' : 'failed');
  }

  #stop(isDone: boolean): void {
    const stop = { kind: 'stop', to: this.from, file: this.offer.file, done: isDone } as const;
    if (this.#host.isConnected()) this.#host.send(stop).catch(() => undefined);
  }

  #finish(state: 'done' | 'failed' | 'cancelled'): void {
    this.#leave?.();
    this.#leave = undefined;
    this.#transferred = this.transferred;
    this.#received = undefined;
    this.#show(state);
  }

  #show(state: FileState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#host.changed();
  }
}
