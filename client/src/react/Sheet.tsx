import { type ReactNode, useEffect, useRef } from 'react';
import { CloseIcon } from './icons';
import { useWords } from './words/index';

/** What stands beside the stage, or over its lower part on narrow displays; Escape closes it. */
export function Sheet({
  title,
  onClose,
  children,
}: {
  title: string;
  onClose: () => void;
  children: ReactNode;
}) {
  const words = useWords().people;
  const sheet = useRef<HTMLElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    sheet.current?.focus({ preventScroll: true });
    const element = sheet.current;
    return () => {
      const isInside = element?.contains(document.activeElement);
      if (isInside && before instanceof HTMLElement) before.focus({ preventScroll: true });
    };
  }, []);
  return (
    <aside ref={sheet} className="oc-sheet" aria-label={title} tabIndex={-1}>
      <header className="oc-sheet-head">
        <h2>{title}</h2>
        <button
          type="button"
          className="oc-button oc-button--bare"
          aria-label={words.close}
          onClick={onClose}
        >
          <CloseIcon />
        </button>
      </header>
      {children}
    </aside>
  );
}
