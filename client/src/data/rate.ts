/** How much of something one participant may cause. */
export interface Rate {
  /** At once. */
  readonly burst: number;
  readonly perSecond: number;
}

/** Counts what one participant causes, by kind. */
export class RateLimit<Kind extends string> {
  readonly #rates: Readonly<Record<Kind, Rate>>;
  readonly #left = new Map<Kind, { tokens: number; at: number }>();

  constructor(rates: Readonly<Record<Kind, Rate>>) {
    this.#rates = rates;
  }

  /** Whether one more of this kind may pass. Time is in milliseconds. */
  take(kind: Kind, now: number): boolean {
    const { burst, perSecond } = this.#rates[kind];
    const known = this.#left.get(kind) ?? { tokens: burst, at: now };
    const gained = (Math.max(0, now - known.at) / 1000) * perSecond;
    const tokens = Math.min(burst, known.tokens + gained);
    const passes = tokens >= 1;
    this.#left.set(kind, { tokens: passes ? tokens - 1 : tokens, at: now });
    return passes;
  }
}
