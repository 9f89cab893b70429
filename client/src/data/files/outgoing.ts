import type { Bytes } from '../../e2ee/bytes';
import { CHUNK_BYTES, type FileOffer, type Range } from '../wire';
import { SEGMENT_BYTES } from './hash';
import { FileSender } from './sender';
import type { FileHost, FileState } from './types';

/** Of the chunk, big endian, in front of it. */
export const INDEX_BYTES = 4;

/** Chunks that one participant may ask for in advance: 16 MiB. */
export const MAX_WANTED = 256;

/** Someone who has not asked for so long is not waited for. */
const IDLE_MS = 20_000;

/** If nobody has asked for anything for so long, it is shown as paused. */
const PAUSED_MS = 6_000;

/** Each may ask for the whole file so many times: a few cuts, and not without end. */
const MAX_PASSES = 4;

interface Taker {
  askedAt: number;
  /** Chunks asked for so far. */
  asked: number;
  isDone: boolean;
}

/** A file of one's own. What anyone asks for is sent once to all who take it. */
export class OutgoingFile {
  readonly offer: FileOffer;
  /** Let go when it is over. */
  #file: Blob | undefined;
  readonly #host: FileHost;
  readonly #chunks: number;
  readonly #wanted = new Set<number>();
  readonly #sent: Uint8Array;
  readonly #takers = new Map<string, Taker>();
  #sentBytes = 0;
  #cursor = 0;
  #sender: Promise<FileSender> | undefined;
  #isPumping = false;
  /** Grows when what was asked for is given up: whoever asks afterwards is served by another channel. */
  #round = 0;
  /** Somebody asks in this round, if only for the channel. */
  #isAsked = false;
  #segment: { number: number; bytes: Bytes } | undefined;
  #end: 'cancelled' | 'failed' | undefined;

  constructor(offer: FileOffer, file: Blob, host: FileHost) {
    this.offer = offer;
    this.#file = file;
    this.#host = host;
    this.#chunks = Math.ceil(offer.size / CHUNK_BYTES);
    this.#sent = new Uint8Array(this.#chunks);
  }

  get transferred(): number {
    return this.#sentBytes;
  }

  /** Whether others may ask for it. */
  get isOffered(): boolean {
    return this.#end === undefined;
  }

  get state(): FileState {
    if (this.#end) return this.#end;
    const takers = [...this.#takers.values()];
    const active = takers.filter(({ isDone }) => !isDone);
    if (active.length > 0) {
      const isAsked = active.some(({ askedAt }) => askedAt > Date.now() - PAUSED_MS);
      return this.#isPumping || isAsked ? 'running' : 'paused';
    }
    return takers.length > 0 ? 'done' : 'offered';
  }

  /** A participant asks for chunks. */
  want(participantId: string, ranges: readonly Range[], now: number): void {
    if (this.#end) return;
    const taker = this.#takers.get(participantId) ?? { askedAt: now, asked: 0, isDone: false };
    this.#takers.set(participantId, taker);
    taker.askedAt = now;
    taker.isDone = false;
    let left = Math.min(MAX_WANTED, (this.#chunks + MAX_WANTED) * MAX_PASSES - taker.asked);
    for (const [begin, end] of ranges) {
      for (let at = begin; at < Math.min(end, this.#chunks) && left > 0; at += 1) {
        this.#wanted.add(at);
        taker.asked += 1;
        left -= 1;
      }
    }
    this.#isAsked = true;
    void this.#pump();
  }

  /** A participant has it, or wants it no more. */
  stop(participantId: string, isDone: boolean): void {
    const taker = this.#takers.get(participantId);
    if (!taker) return;
    if (isDone) taker.isDone = true;
    else this.#takers.delete(participantId);
    this.#rest();
  }

  participantLeft(participantId: string): void {
    if (this.#takers.get(participantId)?.isDone === false) this.stop(participantId, false);
  }

  /** Gives up who is silent. */
  tick(now: number): void {
    for (const [id, { askedAt, isDone }] of this.#takers) {
      if (!isDone && askedAt < now - IDLE_MS && this.#wanted.size === 0) this.stop(id, false);
    }
  }

  /** The session is lost, and what was asked for with it. */
  lost(): void {
    this.#giveUp();
  }

  cancel(): void {
    this.#finish('cancelled');
  }

  /** Nobody takes it: its channel is given back. */
  #rest(): void {
    if ([...this.#takers.values()].some(({ isDone }) => !isDone)) return;
    const sender = this.#sender;
    this.#giveUp();
    sender?.then((one) => one.close()).catch(() => undefined);
  }

  #giveUp(): void {
    this.#round += 1;
    this.#isAsked = false;
    this.#wanted.clear();
    this.#sender = undefined;
  }

  #finish(end: 'cancelled' | 'failed'): void {
    if (this.#end) return;
    this.#end = end;
    this.#takers.clear();
    this.#segment = undefined;
    this.#file = undefined;
    this.#rest();
    this.#host.changed();
  }

  /** Sends what is asked for, round and round, so that nobody waits for who asks without end. */
  async #pump(): Promise<void> {
    if (this.#isPumping) return;
    this.#isPumping = true;
    this.#host.changed();
    let round: number;
    do {
      round = this.#round;
      await this.#pumpRound(round);
    } while (round !== this.#round && this.#isAsked);
    this.#isPumping = false;
    this.#host.changed();
  }

  async #pumpRound(round: number): Promise<void> {
    try {
      const sender = await this.#opened();
      while (round === this.#round) {
        const at = this.#next();
        const message = at === undefined ? undefined : await this.#read(at);
        if (at === undefined || !message || sender.isClosed) return;
        await sender.send(message);
        this.#note(at);
      }
    } catch (error) {
      // Who waits asks again, and then there may be another way.
      console.info('opencall: a file is not sent at the moment', error);
      if (round === this.#round) this.#giveUp();
    }
  }

  async #opened(): Promise<FileSender> {
    const known = await this.#sender?.catch(() => undefined);
    if (known && !known.isClosed) return known;
    this.#sender = this.#host.openFile(this.offer.file).then((channel) => new FileSender(channel));
    return this.#sender;
  }

  #next(): number | undefined {
    if (this.#wanted.size === 0) return undefined;
    // What is asked for are mostly the chunks that follow.
    for (let step = 0; step < this.#chunks; step += 1) {
      const at = (this.#cursor + step) % this.#chunks;
      if (!this.#wanted.delete(at)) continue;
      this.#cursor = at + 1;
      return at;
    }
    return undefined;
  }

  async #read(at: number): Promise<Bytes | undefined> {
    const file = this.#file;
    if (!file) return undefined;
    const number = Math.floor((at * CHUNK_BYTES) / SEGMENT_BYTES);
    if (this.#segment?.number !== number) {
      const begin = number * SEGMENT_BYTES;
      try {
        const bytes = await file.slice(begin, begin + SEGMENT_BYTES).arrayBuffer();
        if (this.#end) return undefined;
        this.#segment = { number, bytes: new Uint8Array(bytes) };
      } catch (error) {
        // It was changed or deleted meanwhile.
        console.warn('opencall: a file cannot be read any more', error);
        this.#finish('failed');
        void this.#host.tellOffers().catch(() => undefined);
        return undefined;
      }
    }
    const begin = at * CHUNK_BYTES - number * SEGMENT_BYTES;
    const chunk = this.#segment?.bytes.subarray(begin, begin + CHUNK_BYTES) ?? new Uint8Array();
    const message = new Uint8Array(INDEX_BYTES + chunk.length);
    new DataView(message.buffer).setUint32(0, at);
    message.set(chunk, INDEX_BYTES);
    return message;
  }

  #note(at: number): void {
    if (this.#sent[at]) return;
    this.#sent[at] = 1;
    this.#sentBytes += Math.min(CHUNK_BYTES, this.offer.size - at * CHUNK_BYTES);
    this.#host.changed();
  }
}
