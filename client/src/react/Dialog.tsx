import { type ReactNode, useEffect, useRef } from 'react';
import { CloseIcon } from './icons';
import { useWords } from './words/index';

/** A modal dialog of the platform: it keeps the focus, Escape closes it, and the rest of the page waits. */
export function Dialog({
  title,
  onClose,
  children,
}: {
  title: string;
  onClose: () => void;
  children: ReactNode;
}) {
  const words = useWords();
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current;
    element?.showModal?.();
    return () => element?.close?.();
  }, []);
  return (
    <dialog
      ref={dialog}
      className="oc-dialog"
      aria-label={title}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => {
        // The backdrop belongs to the dialog.
        if (event.target === dialog.current && isOutside(event, dialog.current)) onClose();
      }}
      onKeyDown={(event) => event.stopPropagation()}
    >
      <header className="oc-dialog-head">
        <h2>{title}</h2>
        <button
          type="button"
          className="oc-button oc-button--bare"
          aria-label={words.people.close}
          onClick={onClose}
        >
          <CloseIcon />
        </button>
      </header>
      {children}
    </dialog>
  );
}

function isOutside({ clientX: x, clientY: y }: React.MouseEvent, dialog: HTMLElement): boolean {
  const { left, right, top, bottom } = dialog.getBoundingClientRect();
  return x < left || x > right || y < top || y > bottom;
}
