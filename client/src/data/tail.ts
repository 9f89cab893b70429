import { utf8 } from '../e2ee/bytes';
import type { Content } from './wire';

/** Entries that can be sent again, and their bytes: what is said in a minute by who talks a lot. */
const MAX_ENTRIES = 200;
const MAX_BYTES = 256 * 1024;

/** What was said here, in order. */
export interface Entry {
  readonly seq: number;
  readonly sentAt: number;
  readonly content: Content;
  readonly bytes: number;
}

/** The end of one's own ordered stream: what can be sent again. */
export class Tail {
  #entries: Entry[] = [];
  #bytes = 0;
  #next = 0;

  /** The oldest entry that is kept. */
  get first(): number {
    return this.#next - this.#entries.length;
  }

  get next(): number {
    return this.#next;
  }

  append(content: Content, sentAt: number): Entry {
    const bytes = sizeOf(content);
    const entry = { seq: this.#next, sentAt, content, bytes };
    this.#next += 1;
    this.#bytes += bytes;
    this.#entries.push(entry);
    while (this.#entries.length > MAX_ENTRIES || this.#bytes > MAX_BYTES) {
      this.#bytes -= this.#entries.shift()?.bytes ?? 0;
    }
    return entry;
  }

  /** At most so many, oldest first. */
  from(seq: number, count: number): readonly Entry[] {
    return this.#entries.filter((entry) => entry.seq >= seq).slice(0, count);
  }

  since(time: number): readonly Entry[] {
    return this.#entries.filter((entry) => entry.sentAt >= time);
  }
}

/** Bytes as JSON. */
export function sizeOf(content: Content): number {
  return utf8(JSON.stringify(content)).length;
}
