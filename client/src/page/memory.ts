import type { Memory } from './settings';

/**
 * What this browser remembers for the page. Where it may not, because cookies are blocked or there is no room, it is kept
 * for as long as the page is open.
 */
export function memoryOf(open: () => Memory): Memory {
  const own = new Map<string, string>();
  const attempt = <Answer>(action: (storage: Memory) => Answer): Answer | undefined => {
    try {
      return action(open());
    } catch {
      return undefined;
    }
  };
  return {
    getItem: (key) => own.get(key) ?? attempt((storage) => storage.getItem(key)) ?? null,
    setItem: (key, value) => {
      own.set(key, value);
      attempt((storage) => storage.setItem(key, value));
    },
  };
}

/** Until the browser is told to forget. */
export const lasting = memoryOf(() => localStorage);

/** For this tab, over reloads. */
export const ofTab = memoryOf(() => sessionStorage);
