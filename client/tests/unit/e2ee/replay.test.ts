import { expect, test } from 'vitest';
import { REPLAY_WINDOW, ReplayWindow } from '../../../src/e2ee/replay';

test('each counter is taken once, in any order within the window', () => {
  const window = new ReplayWindow();
  const counters = Array.from({ length: 3000 }, (_, index) => BigInt(index));
  // Swapped in blocks of 900: each is at most 899 behind the newest.
  const shuffled = [0, 900, 1800, 2700].flatMap((begin) =>
    counters.slice(begin, begin + 900).reverse(),
  );
  for (const counter of shuffled) expect(window.record(counter), `${counter}`).toBe(true);
  for (const counter of counters) expect(window.record(counter), `${counter}`).toBe(false);
});

test('the window is as wide as promised, and what is before it is refused', () => {
  const window = new ReplayWindow();
  const newest = 10_000n;
  expect(window.record(newest)).toBe(true);
  const oldest = newest - BigInt(REPLAY_WINDOW) + 1n;
  expect(REPLAY_WINDOW).toBeGreaterThanOrEqual(1024);
  expect(window.isFresh(oldest)).toBe(true);
  expect(window.isFresh(oldest - 1n)).toBe(false);
  expect(window.record(oldest)).toBe(true);
  expect(window.record(oldest)).toBe(false);
});

test('a jump forgets what is out of the window, and nothing within it', () => {
  const window = new ReplayWindow();
  window.record(5n);
  window.record(1000n);
  expect(window.isFresh(5n)).toBe(false);
  expect(window.isFresh(6n)).toBe(true);
  window.record(2n ** 60n);
  expect(window.isFresh(2n ** 60n)).toBe(false);
  expect(window.isFresh(2n ** 60n - 24n)).toBe(true);
  expect(window.isFresh(1000n)).toBe(false);
});
