/** Values over time, the newest last; lines may come and go. */
export class History {
  readonly #limit: number;
  #times: number[] = [];
  readonly #lines = new Map<string, (number | null)[]>();

  /** Keeps so many moments. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Adds a moment, in seconds, with the values of its lines. */
  add(time: number, values: ReadonlyMap<string, number>): void {
    for (const name of values.keys()) {
      if (!this.#lines.has(name))
        this.#lines.set(
          name,
          this.#times.map(() => null),
        );
    }
    this.#times.push(time);
    for (const [name, line] of this.#lines) line.push(values.get(name) ?? null);
    const excess = this.#times.length - this.#limit;
    if (excess <= 0) return;
    this.#times = this.#times.slice(excess);
    for (const [name, line] of this.#lines) {
      const rest = line.slice(excess);
      if (rest.every((value) => value === null)) this.#lines.delete(name);
      else this.#lines.set(name, rest);
    }
  }

  /** The moments. */
  get times(): readonly number[] {
    return this.#times;
  }

  /** The lines by name, in the order in which they came. */
  get lines(): ReadonlyMap<string, readonly (number | null)[]> {
    return this.#lines;
  }
}

/** How much counters grew in a second, between two looks; a counter that began anew counts from 0. */
export function growth(
  before: Record<string, number>,
  now: Record<string, number>,
  seconds: number,
): Map<string, number> {
  const rates = new Map<string, number>();
  if (seconds <= 0) return rates;
  for (const [name, value] of Object.entries(now)) {
    const earlier = before[name] ?? 0;
    const grown = value >= earlier ? value - earlier : value;
    if (grown > 0) rates.set(name, grown / seconds);
  }
  return rates;
}
