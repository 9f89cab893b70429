import { type RefObject, useEffect, useState } from 'react';

/** After so long without a touch the controls are in nobody's hand. */
const REST_MS = 4_000;

/**
 * Whether nobody has touched anything for a while; not while something has the focus or is open. A tap that ends the rest
 * does nothing else, for what it hits is not seen.
 */
export function useRest(root: RefObject<HTMLElement | null>): boolean {
  const [isAtRest, setAtRest] = useState(false);
  useEffect(() => {
    const element = root.current;
    if (!element) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isResting = false;
    const rest = (now: boolean) => {
      isResting = now;
      setAtRest(now);
    };
    const wait = () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        const isHeld = element.querySelector(':focus-visible, :popover-open, dialog[open]');
        if (isHeld) wait();
        else rest(true);
      }, REST_MS);
    };
    const wake = () => {
      rest(false);
      wait();
    };
    let isSwallowing = false;
    const pressed = (event: PointerEvent) => {
      isSwallowing = isResting && event.pointerType === 'touch';
      wake();
    };
    const clicked = (event: MouseEvent) => {
      if (!isSwallowing) return;
      isSwallowing = false;
      event.stopPropagation();
      event.preventDefault();
    };
    const events = ['pointermove', 'keydown', 'focusin'] as const;
    for (const name of events) element.addEventListener(name, wake);
    element.addEventListener('pointerdown', pressed);
    element.addEventListener('click', clicked, { capture: true });
    wait();
    return () => {
      clearTimeout(timer);
      for (const name of events) element.removeEventListener(name, wake);
      element.removeEventListener('pointerdown', pressed);
      element.removeEventListener('click', clicked, { capture: true });
    };
  }, [root]);
  return isAtRest;
}
