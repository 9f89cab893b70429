// @vitest-environment happy-dom
import { act } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { useFloatingWindow } from '../../src/react/FloatingWindow';
import { useWakeLock } from '../../src/react/useWakeLock';

/** What browsers give a moment later, when the page may be another. */
let answers: (() => void)[];
let root: Root;

beforeEach(() => {
  (globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;
  answers = [];
  root = createRoot(document.body.appendChild(document.createElement('div')));
});

afterEach(async () => {
  await act(async () => root.unmount());
  vi.unstubAllGlobals();
});

function later<T>(answer: T): Promise<T> {
  return new Promise((resolve) => answers.push(() => resolve(answer)));
}

test('a display that is kept on twice goes off as ever after the meeting', async () => {
  const locks: { released: boolean; release: () => Promise<void> }[] = [];
  const request = () => {
    const lock = {
      released: false,
      release: async () => {
        lock.released = true;
      },
    };
    locks.push(lock);
    return later(lock);
  };
  vi.stubGlobal('navigator', { wakeLock: { request } });
  const Meeting = () => {
    useWakeLock(true);
    return null;
  };
  await act(async () => root.render(<Meeting />));
  document.dispatchEvent(new Event('visibilitychange'));
  expect(locks).toHaveLength(2);
  await act(async () => {
    for (const answer of answers.splice(0)) answer();
  });
  expect(locks.filter(({ released }) => !released)).toHaveLength(1);
  await act(async () => root.unmount());
  expect(locks.filter(({ released }) => !released)).toHaveLength(0);
  root = createRoot(document.body.appendChild(document.createElement('div')));
});

test('a floating window that opens when the meeting was left is closed', async () => {
  const close = vi.fn();
  vi.stubGlobal('documentPictureInPicture', {
    requestWindow: () =>
      later({
        close,
        document: document.implementation.createHTMLDocument(),
        addEventListener() {},
      }),
  });
  let open: (() => void) | undefined;
  const Meeting = () => {
    open = useFloatingWindow().open;
    return null;
  };
  await act(async () => root.render(<Meeting />));
  open?.();
  await act(async () => root.unmount());
  await act(async () => {
    for (const answer of answers.splice(0)) answer();
  });
  expect(close).toHaveBeenCalledOnce();
  root = createRoot(document.body.appendChild(document.createElement('div')));
});
