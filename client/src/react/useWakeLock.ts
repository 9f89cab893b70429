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
        const taken = await navigator.wakeLock.request('screen');
        // One that was asked for when the page was shown once more may have come first.
        if (isGone || (lock && !lock.released)) await taken.release();
        else lock = taken;
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
