import { useEffect, useRef } from 'react';
import { type Meeting, type Participant, spatialLayerFor } from '../sdk/index';
import type { Placed, StageContent } from './useStage';
import type { Quality, View } from './view';

const LAYER: Record<Exclude<Quality, 'auto' | 'off'>, number> = { high: 2, medium: 1, low: 0 };

/** What is asked for of someone's camera: a spatial layer, or nothing. */
export type Wish = number | undefined;

/** Asks for the pictures that are shown, and for no more pixels than are shown of them. */
export function useReception(
  meeting: Meeting,
  participants: readonly Participant[],
  { tiles, page }: Pick<StageContent, 'tiles' | 'page'>,
  view: Pick<View, 'qualities' | 'pinned'>,
): void {
  const asked = useRef<{
    meeting: Meeting;
    wishes: Map<string, Wish>;
    pinned?: string | undefined;
  }>({ meeting, wishes: new Map() });
  const wanted = JSON.stringify(wishesOf(participants, tiles, view.qualities, page > 0));
  const pinned = view.pinned?.source === 'camera' ? view.pinned.participantId : undefined;
  useEffect(() => {
    if (asked.current.meeting !== meeting) asked.current = { meeting, wishes: new Map() };
    const { wishes: before, pinned: pinnedBefore } = asked.current;
    const now = new Map((JSON.parse(wanted) as [string, number | null][]).map(fromJson));
    asked.current = { meeting, wishes: now, pinned };
    const failed = (error: unknown) => console.info('opencall: a picture stays as it is', error);
    // Whoever has left has no wishes left.
    const present = new Set(meeting.snapshot.participants.map(({ id }) => id));
    for (const id of before.keys()) {
      if (!now.has(id) && present.has(id)) {
        meeting.setReceiving(id, 'camera', false).catch(failed);
      }
    }
    for (const [id, layer] of now) {
      const isNew = !before.has(id);
      const isShown = layer !== undefined;
      const isPinned = id === pinned;
      const isNews = isShown !== (before.get(id) !== undefined);
      if (isNew || isNews || isPinned !== (id === pinnedBefore)) {
        meeting.setReceiving(id, 'camera', isShown, { steady: isPinned }).catch(failed);
      }
      if (isShown && before.get(id) !== layer) {
        const layers = { spatialLayer: layer, temporalLayer: 2 };
        meeting.setPreferredLayers(id, 'camera', layers).catch(failed);
      }
    }
  }, [meeting, wanted, pinned]);
}

/**
 * What to ask for of everyone else's camera; on further pages (`isFurther`) also of those of whom none is known: in large
 * rooms it is known of who is asked for. A stage that is not measured yet says nothing.
 */
export function wishesOf(
  participants: readonly Participant[],
  tiles: readonly Placed[],
  qualities: Readonly<Record<string, Quality>>,
  isFurther: boolean,
): [string, Wish][] {
  const shown = new Map(
    tiles
      .filter(({ spot }) => spot.source === 'camera')
      .map(({ participant, rect }) => [participant.id, rect]),
  );
  if ([...shown.values()].some(({ height }) => height === 0)) return [];
  return participants
    .filter(({ id, isLocal, media }) => !isLocal && (media.camera || (isFurther && shown.has(id))))
    .map(({ id }) => {
      const rect = shown.get(id);
      const quality = qualities[id] ?? 'auto';
      if (!rect || quality === 'off') return [id, undefined];
      if (quality !== 'auto') return [id, LAYER[quality]];
      return [id, spatialLayerFor(rect.height * (globalThis.devicePixelRatio || 1))];
    });
}

/** JSON has no `undefined`. */
function fromJson([id, layer]: [string, number | null]): [string, Wish] {
  return [id, layer ?? undefined];
}
