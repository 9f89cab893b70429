/** The views on this page, and which of them has the keys that are pressed while nothing has the focus. */
const views = new Set<HTMLElement>();
let inUse: HTMLElement | undefined;

/** Whoever touches something of the application around a view uses that, and no view any more. */
function used(event: Event): void {
  const path = event.composedPath();
  inUse = [...views].find((view) => path.includes(view));
}

/** A view is there until the returned function is called. The first of a page has its keys at once. */
export function addView(view: HTMLElement): () => void {
  if (views.size === 0) {
    inUse = view;
    document.addEventListener('pointerdown', used, { capture: true });
    document.addEventListener('focusin', used, { capture: true });
  }
  views.add(view);
  return () => {
    views.delete(view);
    if (inUse === view) inUse = undefined;
    if (views.size > 0) return;
    document.removeEventListener('pointerdown', used, { capture: true });
    document.removeEventListener('focusin', used, { capture: true });
  };
}

/** Whether a key is for this view: it, or something in it, has the focus, or nothing has and it was used last. */
export function isForView(event: Event, view: HTMLElement): boolean {
  const path = event.composedPath();
  if (path.includes(view)) return true;
  const [target] = path;
  // What is around the view is the page, or a part of it that took the focus for want of anything better.
  return inUse === view && target instanceof Node && target.contains(view);
}
