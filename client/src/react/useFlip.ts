import { type RefObject, useLayoutEffect, useRef } from 'react';
import type { Rect } from './layout';
import type { Placed } from './useStage';

const DURATION_MS = 180;
const EASING = 'cubic-bezier(0.2, 0, 0, 1)';

/** Moves tiles to their new places when people come, go or change places; not while the window is being resized. */
export function useFlip(stage: RefObject<HTMLElement | null>, tiles: readonly Placed[]): void {
  const before = useRef(new Map<string, Rect>());
  const shape = tiles.map(({ key, isMain }) => (isMain ? `${key}!` : key)).join('\n');
  const lastShape = useRef(shape);
  useLayoutEffect(() => {
    const known = before.current;
    before.current = new Map(tiles.map(({ key, rect }) => [key, rect]));
    const isResized = lastShape.current === shape;
    lastShape.current = shape;
    if (isResized || globalThis.matchMedia?.('(prefers-reduced-motion: reduce)').matches) return;
    for (const { key, rect } of tiles) {
      const element = stage.current?.querySelector<HTMLElement>(
        `[data-tile="${globalThis.CSS?.escape?.(key) ?? key}"]`,
      );
      const frames = framesOf(known.get(key), rect);
      if (frames) element?.animate?.(frames, { duration: DURATION_MS, easing: EASING });
    }
  });
}

/** From where it stood to where it stands; a new one appears. */
function framesOf(from: Rect | undefined, to: Rect): Keyframe[] | undefined {
  if (!from) return [{ opacity: 0, transform: 'scale(0.94)' }, {}];
  if (to.width === 0 || to.height === 0) return undefined;
  const isSame =
    from.x === to.x && from.y === to.y && from.width === to.width && from.height === to.height;
  if (isSame) return undefined;
  const dx = from.x + from.width / 2 - to.x - to.width / 2;
  const dy = from.y + from.height / 2 - to.y - to.height / 2;
  const scale = `scale(${from.width / to.width}, ${from.height / to.height})`;
  return [{ transform: `translate(${dx}px, ${dy}px) ${scale}` }, { transform: 'none' }];
}
