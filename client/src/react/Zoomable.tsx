import { type ReactNode, useEffect, useRef, useState } from 'react';
import { ZoomIcon } from './icons';
import { useWords } from './words/index';
import { moveBy, WHOLE, type Zoom, zoomAt } from './zoom';

const STEP = 1.5;

/** Pixels that an arrow key moves a picture. */
const ARROW_PX = 80;

const ARROWS: Record<string, [number, number]> = {
  ArrowLeft: [ARROW_PX, 0],
  ArrowRight: [-ARROW_PX, 0],
  ArrowUp: [0, ARROW_PX],
  ArrowDown: [0, -ARROW_PX],
};

/** A picture that can be looked at closely: by the wheel with Ctrl, by two fingers, by buttons or keys. */
export function Zoomable({ name, children }: { name: string; children: ReactNode }) {
  const words = useWords().tile;
  const frame = useRef<HTMLDivElement>(null);
  const [zoom, setZoom] = useState<Zoom>(WHOLE);
  const size = () => frame.current?.getBoundingClientRect() ?? new DOMRect();
  const zoomBy = (factor: number, point = { x: 0, y: 0 }) =>
    setZoom((before) => zoomAt(before, factor, point, size()));
  useEffect(() => {
    const element = frame.current;
    if (!element) return;
    // React's own listener could not keep the page from being zoomed instead.
    const wheel = (event: WheelEvent) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const { left, top, width, height } = element.getBoundingClientRect();
      const point = { x: event.clientX - left - width / 2, y: event.clientY - top - height / 2 };
      const factor = Math.exp(-event.deltaY / 200);
      setZoom((before) => zoomAt(before, factor, point, { width, height }));
    };
    element.addEventListener('wheel', wheel, { passive: false });
    return () => element.removeEventListener('wheel', wheel);
  }, []);
  const keys = (event: React.KeyboardEvent) => {
    const arrow = ARROWS[event.key];
    if (event.key === '+' || event.key === '=') zoomBy(STEP);
    else if (event.key === '-') zoomBy(1 / STEP);
    else if (event.key === '0') setZoom(WHOLE);
    else if (arrow && zoom.scale > 1) {
      setZoom((before) => moveBy(before, arrow[0], arrow[1], size()));
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: keys are for whoever came here by Tab, buttons do the same
    <div className="oc-zoom" ref={frame} onKeyDown={keys} data-zoomed={zoom.scale > 1}>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: dragging is a short cut */}
      <div
        className="oc-zoom-picture"
        style={{ transform: `translate(${zoom.x}px, ${zoom.y}px) scale(${zoom.scale})` }}
        onPointerMove={(event) => {
          if (event.buttons !== 1 || zoom.scale === 1) return;
          setZoom((before) => moveBy(before, event.movementX, event.movementY, size()));
        }}
        onDoubleClick={() => (zoom.scale > 1 ? setZoom(WHOLE) : zoomBy(STEP * STEP))}
      >
        {children}
      </div>
      {/* biome-ignore lint/a11y/useSemanticElements: a fieldset is for forms */}
      <div className="oc-zoom-buttons" role="group" aria-label={name}>
        <button
          type="button"
          aria-label={words.zoomOut}
          data-tip={words.zoomOut}
          aria-disabled={zoom.scale === 1}
          onClick={() => zoomBy(1 / STEP)}
        >
          <ZoomIcon to="out" />
        </button>
        <button
          type="button"
          aria-label={words.zoomReset}
          data-tip={words.zoomReset}
          aria-disabled={zoom.scale === 1}
          onClick={() => setZoom(WHOLE)}
        >
          <ZoomIcon to="whole" />
        </button>
        <button
          type="button"
          aria-label={words.zoomIn}
          data-tip={words.zoomIn}
          onClick={() => zoomBy(STEP)}
        >
          <ZoomIcon to="in" />
        </button>
      </div>
    </div>
  );
}
