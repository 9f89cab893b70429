import { expect } from 'vitest';

/** Set by `scripts/prove`, on a machine that has nothing else to do. */
export const isProof = process.env.OPENCALL_PROVE === '1';

/** All cases of a test where it is to be proved; else the first so many, for whom someone waits. */
export function cases<T>(all: readonly T[], quick: number): readonly T[] {
  return isProof ? all : all.slice(0, quick);
}

/**
 * What depends on how fast and how busy the machine is: written down in tests, and held to the bar, exclusive, where it is
 * to be proved.
 */
export function holds(what: string, value: number, bar: number): void {
  console.info(`measured: ${what} ${Math.round(value * 10) / 10} (to prove: below ${bar})`);
  if (isProof) expect(value, what).toBeLessThan(bar);
}
