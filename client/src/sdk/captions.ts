import type { ServerEvents } from './protocol';

/** What someone said, as a program outside understood it. */
export interface Caption {
  /** Of what was said: a later caption of the same utterance replaces this. */
  readonly utterance: number;
  readonly participantId: string;
  readonly text: string;
  /** Whether it may still change. */
  readonly interim: boolean;
  /** As in BCP 47, if the program knows. */
  readonly language?: string;
  /** When it was last heard of, as `Date.now()`. */
  readonly at: number;
}

/** How many are kept: what several people say in a minute. */
const MAX_CAPTIONS = 50;

/** With one that is new, or has changed; in the order in which they began. */
export function withCaption(
  captions: readonly Caption[],
  event: ServerEvents['caption'],
): readonly Caption[] {
  const all = new Map(captions.map((one) => [one.utterance, one]));
  all.set(event.utterance, { ...event, at: Date.now() });
  return [...all.values()].slice(-MAX_CAPTIONS);
}
