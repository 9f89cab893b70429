import { type RefObject, useEffect, useRef } from 'react';
import { addView, isForView } from './focusedView';

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

/**
 * Listens to the keyboard as far as it is meant for the view, except where text is typed and where a key already does
 * something: the application around it, and other views, have keys of their own.
 */
export function useShortcuts(view: RefObject<HTMLElement | null>, actions: ShortcutActions): void {
  const latest = useRef(actions);
  latest.current = actions;
  useEffect(() => {
    const root = view.current;
    if (!root) return;
    const down = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      const [target = null] = event.composedPath();
      if (isTyped(target) || !isForView(event, root)) return;
      if (runShortcut({ key: event.key, repeat: event.repeat, target }, latest.current)) {
        event.preventDefault();
      }
    };
    // Wherever the focus is by then, and whoever else listens there.
    const up = (event: KeyboardEvent) => {
      if (event.key === ' ') latest.current.talk(false);
    };
    // Whoever leaves the window lets the key go where it is not seen.
    const blur = () => latest.current.talk(false);
    const removeView = addView(root);
    document.addEventListener('keydown', down);
    window.addEventListener('keyup', up, { capture: true });
    window.addEventListener('blur', blur);
    return () => {
      latest.current.talk(false);
      removeView();
      document.removeEventListener('keydown', down);
      window.removeEventListener('keyup', up, { capture: true });
      window.removeEventListener('blur', blur);
    };
  }, [view]);
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
