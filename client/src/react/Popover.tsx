import { type ReactNode, useCallback, useEffect, useRef, useState } from 'react';

/**
 * A button and the panel that it opens, by the platform's popover: Escape and a click elsewhere close it, and the focus
 * goes back. What is in it is only made while it is open.
 */
export function Popover({
  label,
  tip,
  className,
  place = 'below',
  icon,
  children,
  ...data
}: {
  /** Name of the button and of the panel. */
  label: string;
  /** Shown beside the pointer; the label if left out. */
  tip?: string;
  className: string;
  place?: 'above' | 'below';
  icon: ReactNode;
  children: (close: () => void) => ReactNode;
  'data-control'?: string;
}) {
  const button = useRef<HTMLButtonElement>(null);
  const panel = useRef<HTMLDivElement>(null);
  const [isOpen, setOpen] = useState(false);
  const close = useCallback(() => panel.current?.hidePopover?.(), []);
  useEffect(() => {
    const element = panel.current;
    if (!element) return;
    const follow = (event: Event) => setOpen((event as ToggleEvent).newState === 'open');
    element.addEventListener('toggle', follow);
    return () => element.removeEventListener('toggle', follow);
  }, []);
  useEffect(() => {
    if (isOpen) focusable(panel.current)[0]?.focus();
  }, [isOpen]);
  // By the element: React draws the same ids for each of several roots on a page.
  useEffect(() => {
    if (button.current) button.current.popoverTargetElement = panel.current;
  }, []);
  return (
    <>
      <button
        ref={button}
        type="button"
        className={className}
        aria-label={label}
        aria-expanded={isOpen}
        data-tip={tip ?? label}
        {...data}
      >
        {icon}
      </button>
      {/* biome-ignore lint/a11y/useSemanticElements: a fieldset is for forms */}
      <div
        ref={panel}
        popover="auto"
        role="group"
        aria-label={label}
        className={`oc-popover oc-popover--${place}`}
        onKeyDown={(event) => moveFocus(event, panel.current)}
      >
        {isOpen && children(close)}
      </div>
    </>
  );
}

function focusable(panel: HTMLElement | null): HTMLElement[] {
  return [...(panel?.querySelectorAll<HTMLElement>('button:enabled, input:enabled, select') ?? [])];
}

/** Up and down go to the next thing to choose, unless they change what has the focus. */
function moveFocus(event: React.KeyboardEvent, panel: HTMLElement | null): void {
  if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return;
  if (!(event.target instanceof HTMLButtonElement)) return;
  const all = focusable(panel);
  const step = event.key === 'ArrowDown' ? 1 : -1;
  all[(all.indexOf(event.target) + step + all.length) % all.length]?.focus();
  event.preventDefault();
}
