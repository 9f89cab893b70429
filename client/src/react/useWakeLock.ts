import { useEffect } from 'react';

/** Keeps the display on during a meeting, as during a film. */
export function useWakeLock(isWanted: boolean): void {
  useEffect(() => {
    if (!isWanted || !globalThis.navigator?.wakeLock) return;
    let lock: WakeLockSentinel | undefined;
    let isGone = false;
    const take = async () => {
      // The browser takes it back whenever the page is hidden.
      if (document.hidden || (lock && !lock.released)) return;
      try {
        lock = await navigator.wakeLock.request('screen');
        if (isGone) await lock.release();
      } catch {
        // Low on battery, or not allowed: the display goes off as ever.
      }
    };
    void take();
    document.addEventListener('visibilitychange', take);
    return () => {
      isGone = true;
      document.removeEventListener('visibilitychange', take);
      void lock?.release();
    };
  }, [isWanted]);
}
