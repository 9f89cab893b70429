import { useEffect, useRef } from 'react';

/** The keys, as they stand on keyboards. */
export const KEYS = {
  microphone: 'M',
  camera: 'V',
  screen: 'S',
  hand: 'H',
  chat: 'C',
  people: 'P',
  layout: 'G',
  captions: 'T',
  help: '?',
} as const;

export interface ShortcutActions {
  microphone(): void;
  camera(): void;
  screen(): void;
  hand(): void;
  chat(): void;
  people(): void;
  layout(): void;
  captions(): void;
  help(): void;
  page(step: 1 | -1): void;
  escape(): void;
  /** The space bar is held, or no more. */
  talk(isHeld: boolean): void;
}

/** Listens to the keyboard, except where text is typed and where a key already does something. */
export function useShortcuts(actions: ShortcutActions): void {
  const latest = useRef(actions);
  latest.current = actions;
  useEffect(() => {
    const down = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      if (isTyped(event.target)) return;
      if (runShortcut(event, latest.current)) event.preventDefault();
    };
    const up = (event: KeyboardEvent) => {
      if (event.key === ' ') latest.current.talk(false);
    };
    // Whoever leaves the window lets the key go where it is not seen.
    const blur = () => latest.current.talk(false);
    document.addEventListener('keydown', down);
    document.addEventListener('keyup', up);
    window.addEventListener('blur', blur);
    return () => {
      document.removeEventListener('keydown', down);
      document.removeEventListener('keyup', up);
      window.removeEventListener('blur', blur);
    };
  }, []);
}

/** Whether the key did something. */
export function runShortcut(
  { key, repeat, target }: Pick<KeyboardEvent, 'key' | 'repeat' | 'target'>,
  actions: ShortcutActions,
): boolean {
  if (key === ' ') {
    // On a button the space bar presses it.
    if (isPressed(target)) return false;
    if (!repeat) actions.talk(true);
    return true;
  }
  if (key === 'ArrowLeft' || key === 'ArrowRight') {
    actions.page(key === 'ArrowLeft' ? -1 : 1);
    return true;
  }
  if (repeat) return false;
  if (key === 'Escape') {
    actions.escape();
    return false;
  }
  const found = Object.entries(KEYS).find(([, wanted]) => wanted === key.toUpperCase());
  if (!found) return false;
  actions[found[0] as keyof typeof KEYS]();
  return true;
}

function isTyped(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return target.isContentEditable || target.matches('input, textarea, select, [popover] *');
}

function isPressed(target: EventTarget | null): boolean {
  return target instanceof Element && target.matches('button, a, summary, [role="button"]');
}
