import type { Bytes } from '../../e2ee/bytes';
import { CHUNK_BYTES, MAX_RANGES, type Range } from '../wire';
import { hashOfHashes, SEGMENT_BYTES, sha256 } from './hash';

const CHUNKS_PER_SEGMENT = SEGMENT_BYTES / CHUNK_BYTES;

/** Segments in memory that are not whole: what was asked for, and what others asked for meanwhile. */
const MAX_PARTIAL_SEGMENTS = 64;

interface Partial {
  readonly bytes: Bytes;
  missing: number;
}

/** A file as it comes, in any order. What is whole goes to the browser, which keeps it where it has room. */
export class ReceivedFile {
  readonly #size: number;
  readonly #chunks: number;
  readonly #has: Uint8Array;
  readonly #partial = new Map<number, Partial>();
  readonly #segments: Blob[] = [];
  readonly #hashes: Promise<Bytes>[] = [];
  #received = 0;
  #firstMissing = 0;

  constructor(size: number) {
    this.#size = size;
    this.#chunks = Math.ceil(size / CHUNK_BYTES);
    this.#has = new Uint8Array(this.#chunks);
  }

  /** Bytes that are here. */
  get received(): number {
    return this.#received;
  }

  get chunks(): number {
    return this.#chunks;
  }

  get isWhole(): boolean {
    return this.#received === this.#size;
  }

  /** Takes a chunk; `false` if it was here, is none of this file, or there is no room for it now. */
  take(index: number, bytes: Uint8Array): boolean {
    if (index >= this.#chunks || this.#has[index]) return false;
    if (bytes.length !== this.#lengthOf(index * CHUNK_BYTES, CHUNK_BYTES)) return false;
    const number = Math.floor(index / CHUNKS_PER_SEGMENT);
    const segment = this.#partial.get(number) ?? this.#begin(number);
    if (!segment) return false;
    segment.bytes.set(bytes, index * CHUNK_BYTES - number * SEGMENT_BYTES);
    segment.missing -= 1;
    this.#has[index] = 1;
    this.#received += bytes.length;
    while (this.#has[this.#firstMissing]) this.#firstMissing += 1;
    if (segment.missing === 0) this.#finish(number, segment);
    return true;
  }

  /** Missing chunks from this one on, at most so many. */
  missing(from: number, count: number): Range[] {
    const ranges: [number, number][] = [];
    let left = count;
    let last: [number, number] | undefined;
    for (let at = Math.max(from, this.#firstMissing); at < this.#chunks && left > 0; at += 1) {
      if (this.#has[at]) continue;
      left -= 1;
      if (last?.[1] === at) last[1] = at + 1;
      else if (ranges.length === MAX_RANGES) break;
      else {
        last = [at, at + 1];
        ranges.push(last);
      }
    }
    return ranges;
  }

  /** All of it, once it is whole; `undefined` if it is not what was offered. */
  async assemble(hash: string, type: string): Promise<Blob | undefined> {
    const hashes = await Promise.all(this.#hashes);
    if (!this.isWhole || (await hashOfHashes(hashes)) !== hash) return undefined;
    return new Blob(this.#segments, { type });
  }

  #begin(number: number): Partial | undefined {
    if (this.#partial.size >= MAX_PARTIAL_SEGMENTS) return undefined;
    const length = this.#lengthOf(number * SEGMENT_BYTES, SEGMENT_BYTES);
    const missing = Math.ceil(length / CHUNK_BYTES);
    const segment = { bytes: new Uint8Array(length), missing };
    this.#partial.set(number, segment);
    return segment;
  }

  #finish(number: number, { bytes }: Partial): void {
    this.#partial.delete(number);
    this.#segments[number] = new Blob([bytes]);
    const hash = sha256(bytes);
    // Whoever assembles it hears of what goes wrong.
    hash.catch(() => undefined);
    this.#hashes[number] = hash;
  }

  #lengthOf(begin: number, length: number): number {
    return Math.min(length, this.#size - begin);
  }
}
