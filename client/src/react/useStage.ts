import { useRef } from 'react';
import type { MeetingSnapshot, Participant } from '../sdk/index';
import {
  arrange,
  arrangeStage,
  chooseMain,
  keyOf,
  mainSpeaker,
  paged,
  rememberSpeakers,
  type Spot,
  screensOf,
} from './arrangement';
import {
  gridPlaces,
  MAX_TILES,
  placeGrid,
  placeSpeaker,
  type Rect,
  type Size,
  stripPlaces,
} from './layout';
import type { View } from './view';

/** Narrower stages are those of phones. */
const NARROW_PX = 700;

/** A tile, and where it stands. */
export interface Placed {
  key: string;
  spot: Spot;
  participant: Participant;
  rect: Rect;
  isMain: boolean;
}

/** What the stage shows. */
export interface StageContent {
  mode: 'grid' | 'speaker';
  tiles: Placed[];
  page: number;
  pages: number;
  /** People whose tiles are on other pages. */
  hidden: number;
}

/** Everyone, or one large: a pin or a screen asks for that, unless someone chose otherwise. */
export function effectiveMode(
  { mode, pinned }: Pick<View, 'mode' | 'pinned'>,
  participants: readonly Participant[],
): 'grid' | 'speaker' {
  if (mode !== 'auto') return mode;
  return pinned || screensOf(participants).length > 0 ? 'speaker' : 'grid';
}

/** Fills the stage, but for `pager` pixels where there are pages; people keep their places between calls. */
export function useStage(
  { participants, speakers, stage }: Pick<MeetingSnapshot, 'participants' | 'speakers' | 'stage'>,
  view: Pick<View, 'mode' | 'pinned' | 'page'>,
  whole: Size,
  pager: number,
): StageContent {
  const order = useRef<readonly string[]>([]);
  const recent = useRef<readonly string[]>([]);
  const speaker = useRef<string | undefined>(undefined);
  recent.current = rememberSpeakers(recent.current, speakers, MAX_TILES - 1);
  const large = stage.length > 0 ? arrangeStage(participants, stage) : undefined;
  // In a large room who speaks is shown once they are on its stage.
  const eligible = large ? participants.filter(({ id }) => large.first.includes(id)) : participants;
  speaker.current = mainSpeaker(speaker.current, { speakers, participants: eligible });
  const mode = effectiveMode(view, participants);
  const people = new Map(participants.map((participant) => [participant.id, participant]));
  const main =
    mode === 'speaker' ? chooseMain(participants, view.pinned, speaker.current) : undefined;
  const screens = screensOf(participants).filter((spot) => !main || keyOf(spot) !== keyOf(main));
  const others = participants.length + screens.length - (main?.source === 'camera' ? 1 : 0);
  const isPaged =
    others > (main ? stripPlaces(whole) : gridPlaces(whole)) || (large?.others.length ?? 0) > 0;
  const isNarrow = whole.width < NARROW_PX;
  // On narrow stages under all tiles, else under the strip; a wide grid has room beside the controls.
  const size = isPaged && isNarrow ? { ...whole, height: whole.height - pager } : whole;
  const below = isPaged && !isNarrow ? pager : 0;
  const places = main ? stripPlaces(size, below) : gridPlaces(size);
  order.current = arrange(
    order.current,
    participants,
    recent.current,
    Math.max(1, places - screens.length),
  );
  const faces = (ids: readonly string[]) =>
    ids
      .filter((id) => main?.source !== 'camera' || id !== main.participantId)
      .map((id): Spot => ({ participantId: id, source: 'camera' }));
  const first = [...screens, ...faces(large?.first ?? order.current)];
  const all = paged([first, faces(large?.others ?? [])], places);
  const pages = Math.max(1, all.length);
  const page = Math.min(view.page, pages - 1);
  const onPage = all[page] ?? [];
  const { rects, mainRect } = main
    ? splitUp(placeSpeaker(onPage.length, size, below))
    : { rects: placeGrid(onPage.length, size), mainRect: undefined };
  const tiles = onPage.map((spot, index) => place(spot, people, rects[index], false));
  if (main) tiles.unshift(place(main, people, mainRect, true));
  return { mode, tiles: tiles.flat(), page, pages, hidden: all.flat().length - onPage.length };
}

function splitUp({ main, strip }: { main: Rect; strip: Rect[] }) {
  return { rects: strip, mainRect: main };
}

function place(
  spot: Spot,
  people: ReadonlyMap<string, Participant>,
  rect: Rect | undefined,
  isMain: boolean,
): Placed[] {
  const participant = people.get(spot.participantId);
  return participant && rect ? [{ key: keyOf(spot), spot, participant, rect, isMain }] : [];
}
