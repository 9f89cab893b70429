import { expect, test } from 'vitest';
import { backoffDelayMs, DEFAULT_BACKOFF } from '../../src/sdk/backoff';

const options = { firstDelayMs: 100, maxDelayMs: 1000, factor: 2, jitter: 0.5, maxAttempts: 7 };

test('delays double from the second attempt on, up to the longest', () => {
  const delays = [0, 1, 2, 3, 4, 5, 6].map((attempt) => backoffDelayMs(attempt, options, () => 0));
  expect(delays).toEqual([0, 100, 200, 400, 800, 1000, 1000]);
});

test('chance takes away at most the share that is its own', () => {
  expect(backoffDelayMs(3, options, () => 1)).toBe(200);
});

test('ends after the last attempt', () => {
  expect(backoffDelayMs(7, options)).toBeNull();
});

test('by default tries for about two minutes', () => {
  let totalMs = 0;
  for (let attempt = 0; ; attempt += 1) {
    const delayMs = backoffDelayMs(attempt, DEFAULT_BACKOFF, () => 0);
    if (delayMs === null) break;
    totalMs += delayMs;
  }
  expect(totalMs).toBeGreaterThan(90_000);
  expect(totalMs).toBeLessThan(150_000);
});
