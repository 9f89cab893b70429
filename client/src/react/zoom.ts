import type { Size } from './layout';

/** How a picture is seen through its frame: so many times larger, moved by so many pixels from the middle. */
export interface Zoom {
  scale: number;
  x: number;
  y: number;
}

export const WHOLE: Zoom = { scale: 1, x: 0, y: 0 };

/** More shows single pixels of a screen. */
const MAX_SCALE = 6;

/** Zooms so that what is under `point` (from the middle of the frame) stays there. */
export function zoomAt(
  before: Zoom,
  factor: number,
  point: { x: number; y: number },
  frame: Size,
): Zoom {
  const scale = Math.min(MAX_SCALE, Math.max(1, before.scale * factor));
  const grown = scale / before.scale;
  return within(
    {
      scale,
      x: point.x - (point.x - before.x) * grown,
      y: point.y - (point.y - before.y) * grown,
    },
    frame,
  );
}

/** Moves the picture, no further than its edges. */
export function moveBy(before: Zoom, dx: number, dy: number, frame: Size): Zoom {
  return within({ ...before, x: before.x + dx, y: before.y + dy }, frame);
}

function within({ scale, x, y }: Zoom, { width, height }: Size): Zoom {
  const most = { x: ((scale - 1) * width) / 2, y: ((scale - 1) * height) / 2 };
  const clamp = (value: number, bound: number) => Math.min(bound, Math.max(-bound, value)) || 0;
  return { scale, x: clamp(x, most.x), y: clamp(y, most.y) };
}
