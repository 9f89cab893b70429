import type { Source } from './participants';
import type { Layers } from './protocol';

/** Videos received at once: what fits on a screen, and what a browser decodes. */
export const MAX_VIDEOS = 21;

/** In rooms with more microphones than this not all of them are received… */
const MANY_VOICES = 24;

/** …but those who spoke last. More than a few at once are understood by nobody. */
export const MAX_VOICES = 9;

/** Something that could be received. */
export interface Offered {
  readonly producerId: string;
  readonly participantId: string;
  readonly source: Source;
}

/** What the page wants of one track of one participant. */
interface Wish {
  isWanted?: boolean;
  /** By a stream of its own, also while it is on the stage of a large room. */
  isSteady?: boolean;
  layers?: Layers;
}

const NO_WISH: Wish = {};

/**
 * What of all that is offered is received. It outlives sessions: a picture put aside stays so after a restart of the
 * server.
 */
export class Reception {
  readonly #wishes = new Map<string, Map<Source, Wish>>();
  #recentSpeakers: readonly string[] = [];

  /** `true`: before all that nobody asked for. `false`: not. */
  setWanted(participantId: string, source: Source, isWanted: boolean, isSteady = false): void {
    Object.assign(this.#wish(participantId, source), { isWanted, isSteady });
  }

  /** Whose track of this source is asked for. */
  wanted(source: Source): readonly string[] {
    const wanted = [...this.#wishes].filter(([, wishes]) => wishes.get(source)?.isWanted);
    return wanted.map(([participantId]) => participantId);
  }

  wish(participantId: string, source: Source): Wish {
    return this.#find(participantId, source) ?? NO_WISH;
  }

  setLayers(participantId: string, source: Source, layers: Layers): void {
    this.#wish(participantId, source).layers = layers;
  }

  isUnwanted(participantId: string, source: Source): boolean {
    return this.#find(participantId, source)?.isWanted === false;
  }

  layers(participantId: string, source: Source): Layers | undefined {
    return this.#find(participantId, source)?.layers;
  }

  /** Whether this says something new. */
  noteSpeakers(ids: readonly string[]): boolean {
    if (ids.every((id) => this.#recentSpeakers.includes(id))) return false;
    this.#recentSpeakers = [...new Set([...ids, ...this.#recentSpeakers])].slice(0, MAX_VIDEOS);
    return true;
  }

  /** They may come back another day, as someone else. */
  forgetParticipant(participantId: string): void {
    this.#wishes.delete(participantId);
  }

  clear(): void {
    this.#wishes.clear();
    this.#recentSpeakers = [];
  }

  /** The producers to receive, of those that are offered, in order of arrival. */
  choose(offers: Iterable<Offered>): { chosen: Set<string>; places: (source: Source) => number } {
    const videos: Offered[] = [];
    const voices: Offered[] = [];
    for (const offer of offers) (isVideo(offer.source) ? videos : voices).push(offer);
    const voicePlaces = voices.length > MANY_VOICES ? MAX_VOICES : MANY_VOICES;
    const chosen = new Set<string>();
    for (const [list, places] of [
      [videos, MAX_VIDEOS],
      [voices, voicePlaces],
    ] as const) {
      const wanted = list.filter((offer) => !this.isUnwanted(offer.participantId, offer.source));
      const ranks = new Map(wanted.map((offer, index) => [offer, this.#rank(offer, index)]));
      wanted.sort((a, b) => (ranks.get(a) ?? 0) - (ranks.get(b) ?? 0));
      for (const { producerId } of wanted.slice(0, places)) chosen.add(producerId);
    }
    return { chosen, places: (source) => (isVideo(source) ? MAX_VIDEOS : voicePlaces) };
  }

  /** Lower comes first: what is asked for, screens, who spoke last, who came first. */
  #rank({ participantId, source }: Offered, index: number): number {
    if (this.#find(participantId, source)?.isWanted) return index - 3e6;
    if (source.startsWith('screen')) return index - 2e6;
    const spoke = this.#recentSpeakers.indexOf(participantId);
    return spoke === -1 ? index : spoke - 1e6;
  }

  #find(participantId: string, source: Source): Wish | undefined {
    return this.#wishes.get(participantId)?.get(source);
  }

  #wish(participantId: string, source: Source): Wish {
    const wishes = this.#wishes.get(participantId) ?? new Map<Source, Wish>();
    this.#wishes.set(participantId, wishes);
    const wish = wishes.get(source) ?? {};
    wishes.set(source, wish);
    return wish;
  }
}

/** Whether a track of this source is one that is seen. */
export function isVideo(source: Source): boolean {
  return source === 'camera' || source === 'screen';
}
