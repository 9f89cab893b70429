/** How long to wait between attempts. */
export interface BackoffOptions {
  /** Before the second attempt. */
  firstDelayMs: number;
  /** Never longer than this. */
  maxDelayMs: number;
  /** Each delay is this many times the one before. */
  factor: number;
  /** Share of the delay that is drawn at random, so that clients do not return in step. */
  jitter: number;
  /** After so many attempts, give up. */
  maxAttempts: number;
}

/** Two minutes of trying; a server that restarts is back within the first few. */
export const DEFAULT_BACKOFF: BackoffOptions = {
  firstDelayMs: 300,
  maxDelayMs: 8_000,
  factor: 2,
  jitter: 0.3,
  maxAttempts: 18,
};

/** Delay before attempt number `attempt` (0 is the first, at once), or `null`: give up. */
export function backoffDelayMs(
  attempt: number,
  options: BackoffOptions = DEFAULT_BACKOFF,
  random: () => number = Math.random,
): number | null {
  if (attempt >= options.maxAttempts) return null;
  if (attempt <= 0) return 0;
  const whole = Math.min(
    options.maxDelayMs,
    options.firstDelayMs * options.factor ** (attempt - 1),
  );
  return Math.round(whole * (1 - options.jitter * random()));
}
