import { inject } from 'vitest';

declare module 'vitest' {
  export interface ProvidedContext {
    /** The one ceiling of all waiting. */
    ceilingMs: number;
  }
}

/**
 * The longest that anything is waited for. It only ends the tests of what does not happen at all: tests wait for events,
 * and a slow machine takes longer.
 */
export function ceilingMs(): number {
  return inject('ceilingMs');
}

/** Asks until `isDone`, and gives back what was asked for; afterwards the last answer is in the error. */
export async function until<T>(
  what: string,
  ask: () => Promise<T>,
  isDone: (value: T) => boolean,
): Promise<T> {
  const deadline = Date.now() + ceilingMs();
  for (;;) {
    const value = await ask();
    if (isDone(value)) return value;
    if (Date.now() > deadline) {
      throw new Error(`${what}: not within ${ceilingMs()} ms; at last ${JSON.stringify(value)}`);
    }
    await pause();
  }
}

/** Between two questions: often enough to be quick, seldom enough to leave the machine to those who are asked. */
const PAUSE_MS = 100;

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
}
