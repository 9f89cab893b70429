import type { Source } from './participants';
import type { SourceName, StageSlot } from './protocol';

/** Slots of a stage are offered as participants of these names, which nobody else can have. */
const SLOT_NAME = /^stage:\d*$/;

/** Whether that is no person but what old clients take for one: a slot of the stage. */
export function isSlotName(participantId: string): boolean {
  return SLOT_NAME.test(participantId);
}

const SOURCES: Record<SourceName, Source> = {
  camera: 'camera',
  microphone: 'microphone',
  screen_share: 'screen',
  screen_share_audio: 'screenAudio',
};

/** The source that the server names so; what it does not name is told by its kind. */
export function sourceNamed(name: SourceName | null, kind: 'audio' | 'video'): Source {
  const named = name === null ? undefined : SOURCES[name];
  return named ?? (kind === 'audio' ? 'microphone' : 'camera');
}

/** Someone on the stage of a large room. */
export interface OnStage {
  readonly participantId: string;
  readonly source: Source;
}

/** The stage of a large room: who is on which of its producers. */
export class Slots {
  /** By producer, in the server's order: voices, then pictures. */
  readonly #slots = new Map<string, StageSlot>();

  get isEmpty(): boolean {
    return this.#slots.size === 0;
  }

  /** Who is there, pictures first, each by the number of its slot. */
  get occupants(): readonly OnStage[] {
    const slots = [...this.#slots.values()];
    return ['video', 'audio'].flatMap((kind) =>
      slots
        .filter((slot) => slot.kind === kind)
        .sort((a, b) => a.slot - b.slot)
        .flatMap(({ participantId, source, kind }) =>
          participantId === null ? [] : [{ participantId, source: sourceNamed(source, kind) }],
        ),
    );
  }

  /** Whose that producer is now. */
  occupant(producerId: string): OnStage | undefined {
    const slot = this.#slots.get(producerId);
    if (!slot || slot.participantId === null) return undefined;
    return { participantId: slot.participantId, source: sourceNamed(slot.source, slot.kind) };
  }

  /** Whether anybody's producer of that id is on a slot. */
  carries(sourceProducerId: string): boolean {
    return [...this.#slots.values()].some((slot) => slot.sourceProducerId === sourceProducerId);
  }

  /** What the slot was before. */
  set(slot: StageSlot): StageSlot | undefined {
    const before = this.#slots.get(slot.producerId);
    this.#slots.set(slot.producerId, slot);
    return before;
  }

  /** Whether that was one. */
  delete(producerId: string): boolean {
    return this.#slots.delete(producerId);
  }
}
