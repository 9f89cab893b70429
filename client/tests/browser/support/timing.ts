import { expect } from 'vitest';

/** Set by `scripts/prove`, on a machine that has nothing else to do. */
export const isProof = process.env.OPENCALL_PROVE === '1';

/**
 * What depends on how fast and how busy the machine is: written down in tests, and held to the bar, exclusive, where it is
 * to be proved.
 */
export function holds(what: string, value: number, bar: number): void {
  console.info(`measured: ${what} ${Math.round(value * 10) / 10} (to prove: below ${bar})`);
  if (isProof) expect(value, what).toBeLessThan(bar);
}
