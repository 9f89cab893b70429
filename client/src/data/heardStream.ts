import type { Content } from './wire';

/** Entries that came before those in front of them. */
const MAX_HELD = 200;

/** What a participant said, in the place where it was said. */
export interface Said {
  readonly seq: number;
  readonly sentAt: number;
  readonly content: Content;
}

/** The ordered stream of one participant, as it comes: each entry once, and in order, as far as that can be had. */
export class HeardStream {
  readonly id: string;
  readonly #held = new Map<number, Said>();
  /** The number of the next entry to deliver. */
  #next: number;
  /** Entries below it have been sent. */
  #known: number;

  constructor(id: string, next: number) {
    this.id = id;
    this.#next = next;
    this.#known = next;
  }

  /** The first entry that is missed; `undefined` if none is. */
  get missing(): number | undefined {
    return this.#next < this.#known ? this.#next : undefined;
  }

  /** Takes an entry; what can be delivered now. */
  take(said: Said): Said[] {
    if (said.seq < this.#next) return [];
    this.#known = Math.max(this.#known, said.seq + 1);
    if (this.#held.size < MAX_HELD || said.seq === this.#next) this.#held.set(said.seq, said);
    return this.#drain();
  }

  /** The sender says what it can send again, and how much it has sent; what can be delivered now. */
  note(first: number, next: number): Said[] {
    this.#known = Math.max(this.#known, next);
    if (first <= this.#next) return [];
    const kept = [...this.#held.values()].filter(({ seq }) => seq < first);
    return [...this.#deliver(kept), ...this.#skipTo(first)];
  }

  /** What is missed does not come: what comes after it is delivered. */
  giveUp(): Said[] {
    const held = [...this.#held.values()];
    const delivered = this.#deliver(held);
    this.#next = this.#known;
    return delivered;
  }

  #skipTo(next: number): Said[] {
    this.#next = next;
    return this.#drain();
  }

  #deliver(entries: Said[]): Said[] {
    for (const { seq } of entries) this.#held.delete(seq);
    return entries.sort((a, b) => a.seq - b.seq);
  }

  #drain(): Said[] {
    const ready: Said[] = [];
    for (let said = this.#held.get(this.#next); said; said = this.#held.get(this.#next)) {
      this.#held.delete(this.#next);
      this.#next += 1;
      ready.push(said);
    }
    return ready;
  }
}
