import { useEffect, useRef } from 'react';
import { type Meeting, type Participant, spatialLayerFor } from '../sdk/index';
import type { Placed } from './useStage';
import type { Quality } from './view';

const LAYER: Record<Exclude<Quality, 'auto' | 'off'>, number> = { high: 2, medium: 1, low: 0 };

/** What is asked for of someone's camera: a spatial layer, or nothing. */
export type Wish = number | undefined;

/** Asks for the pictures that are shown, and for no more pixels than are shown of them. */
export function useReception(
  meeting: Meeting,
  participants: readonly Participant[],
  tiles: readonly Placed[],
  qualities: Readonly<Record<string, Quality>>,
): void {
  const asked = useRef<{ meeting: Meeting; wishes: Map<string, Wish> }>({
    meeting,
    wishes: new Map(),
  });
  const wanted = JSON.stringify(wishesOf(participants, tiles, qualities));
  useEffect(() => {
    if (asked.current.meeting !== meeting) asked.current = { meeting, wishes: new Map() };
    const before = asked.current.wishes;
    const now = new Map((JSON.parse(wanted) as [string, number | null][]).map(fromJson));
    asked.current.wishes = now;
    const failed = (error: unknown) => console.info('opencall: a picture stays as it is', error);
    for (const [id, layer] of now) {
      const isNew = !before.has(id);
      const isShown = layer !== undefined;
      if (isNew || isShown !== (before.get(id) !== undefined)) {
        meeting.setReceiving(id, 'camera', isShown).catch(failed);
      }
      if (isShown && before.get(id) !== layer) {
        const layers = { spatialLayer: layer, temporalLayer: 2 };
        meeting.setPreferredLayers(id, 'camera', layers).catch(failed);
      }
    }
  }, [meeting, wanted]);
}

/** What to ask for of everyone else's camera. A stage that is not measured yet says nothing. */
export function wishesOf(
  participants: readonly Participant[],
  tiles: readonly Placed[],
  qualities: Readonly<Record<string, Quality>>,
): [string, Wish][] {
  const shown = new Map(
    tiles
      .filter(({ spot }) => spot.source === 'camera')
      .map(({ participant, rect }) => [participant.id, rect]),
  );
  if ([...shown.values()].some(({ height }) => height === 0)) return [];
  return participants
    .filter(({ isLocal, media }) => !isLocal && media.camera)
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
