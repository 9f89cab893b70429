import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Timers } from '../../src/timers';

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

test('what is cleared is not done, and what comes after it is', () => {
  const timers = new Timers();
  const done: string[] = [];
  timers.after(10, () => done.push('early'));
  clearTimeout(timers.after(15, () => done.push('taken back')));
  timers.after(20, () => done.push('late'));
  vi.advanceTimersByTime(15);
  timers.clear();
  expect(vi.getTimerCount()).toBe(0);
  timers.after(10, () => done.push('anew'));
  vi.advanceTimersByTime(100);
  expect(done).toEqual(['early', 'anew']);
});
