import { spawnSync } from 'node:child_process';

/** What starting a process, mostly the kernel's work, takes where the ceilings were chosen. */
const REFERENCE_SPAWN_MS = 2;

/** The same of the loop below, which is all computing. */
const REFERENCE_LOOP_MS = 110;

/** Enough of either for an average, in a tenth of a second each. */
const SPAWNS = 30;
const LOOP_TURNS = 20_000_000;

/**
 * How many times slower this machine is now than the one on which ceilings and bars were chosen, in computing or in the
 * kernel's work, whichever is worse; at least 1.
 */
export function measureSlowness(): number {
  const spawned = timed(() => {
    for (let turn = 0; turn < SPAWNS; turn += 1) spawnSync('/bin/true');
  });
  const looped = timed(() => {
    let sum = 0;
    for (let turn = 0; turn < LOOP_TURNS; turn += 1) sum = (sum * 31 + turn) | 0;
    return sum;
  });
  return Math.max(1, spawned / SPAWNS / REFERENCE_SPAWN_MS, looped / REFERENCE_LOOP_MS);
}

function timed(work: () => unknown): number {
  const begin = performance.now();
  work();
  return performance.now() - begin;
}
