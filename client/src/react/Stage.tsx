import { type RefObject, useEffect, useRef, useState } from 'react';
import type { Meeting, MeetingSnapshot } from '../sdk/index';
import { keyOf } from './arrangement';
import { ChevronIcon } from './icons';
import type { Size } from './layout';
import type { Bars } from './network';
import { Tile } from './Tile';
import { useFlip } from './useFlip';
import { useReception } from './useReception';
import { effectiveMode, type StageContent, useStage } from './useStage';
import type { View, ViewActions } from './view';
import { useWords } from './words/index';

/** Below the tiles, for the controls; not where one large picture may lie under them. */
const CONTROLS_PX = 84;

/** The way to other pages, with a gap. */
const PAGER_PX = 52;

/** The people and the screens of a meeting. */
export function Stage({
  meeting,
  snapshot,
  view,
  actions,
  network,
}: {
  meeting: Meeting;
  snapshot: MeetingSnapshot;
  view: View;
  actions: ViewActions;
  network: ReadonlyMap<string, Bars>;
}) {
  const words = useWords().stage;
  const stage = useRef<HTMLElement>(null);
  const outer = useSize(stage);
  const isWide = outer.width > outer.height * 1.1;
  const isUnder = isWide && effectiveMode(view, snapshot.participants) === 'speaker';
  const size = isUnder ? outer : above(CONTROLS_PX, outer);
  const content = useStage(snapshot, view, size, PAGER_PX);
  useFlip(stage, content.tiles);
  useReception(meeting, snapshot.participants, content, view);
  const pinned = view.pinned && keyOf(view.pinned);
  return (
    <section
      ref={stage}
      className="oc-stage"
      aria-label={words.region}
      data-layout={content.mode}
      data-page={content.page}
      data-pages={content.pages}
    >
      {content.tiles.map(({ key, spot, participant, rect, isMain }) => (
        <Tile
          key={key}
          participant={participant}
          source={spot.source}
          x={rect.x}
          y={rect.y}
          width={rect.width}
          height={rect.height}
          isMain={isMain}
          isPinned={pinned === key}
          bars={network.get(participant.id)}
          volume={view.volumes[participant.id] ?? 1}
          quality={view.qualities[participant.id] ?? 'auto'}
          actions={actions}
        />
      ))}
      <Pager content={content} onPage={actions.setPage} />
    </section>
  );
}

/** From page to page, where not everyone fits. */
function Pager({ content, onPage }: { content: StageContent; onPage: (page: number) => void }) {
  const words = useWords().stage;
  const { page, pages, hidden } = content;
  if (pages < 2) return null;
  return (
    <nav className="oc-pager" aria-label={words.page(page + 1, pages)}>
      <button
        type="button"
        aria-label={words.previous}
        data-tip={words.previous}
        aria-disabled={page === 0}
        onClick={() => onPage(Math.max(0, page - 1))}
      >
        <ChevronIcon to="left" />
      </button>
      <span title={words.more(hidden)}>
        {page + 1} / {pages}
      </span>
      <button
        type="button"
        aria-label={words.next}
        data-tip={words.next}
        aria-disabled={page === pages - 1}
        onClick={() => onPage(Math.min(pages - 1, page + 1))}
      >
        <ChevronIcon to="right" />
      </button>
    </nav>
  );
}

function above(pixels: number, { width, height }: Size): Size {
  return { width, height: Math.max(0, height - pixels) };
}

function useSize(element: RefObject<HTMLElement | null>): Size {
  const [size, setSize] = useState<Size>({ width: 0, height: 0 });
  useEffect(() => {
    if (!element.current) return;
    const observer = new ResizeObserver(([entry]) => {
      if (!entry) return;
      const { width, height } = entry.contentRect;
      setSize((before) =>
        before.width === width && before.height === height ? before : { width, height },
      );
    });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, [element]);
  return size;
}
