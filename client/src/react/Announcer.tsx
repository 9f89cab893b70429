import { useEffect, useRef, useState } from 'react';
import type { Participant } from '../sdk/index';
import { useWords, type Words } from './words/index';

/** Who comes within this long is named together. */
const GATHER_MS = 800;

/** What of people is announced. */
type Known = ReadonlyMap<string, { name: string; hasScreen: boolean; hasHand: boolean }>;

/** Says who comes and goes to those who do not see it. Draws nothing. */
export function Announcer({
  participants,
  isIn,
}: {
  participants: readonly Participant[];
  /** While a connection is lost nobody has left. */
  isIn: boolean;
}) {
  const words = useWords();
  const known = useRef<Known | undefined>(undefined);
  const [text, setText] = useState('');
  const latest = useRef({ participants, words });
  latest.current = { participants, words };
  const shape = participants
    .map(
      ({ id, displayName, media, handRaisedAt }) =>
        `${id} ${displayName} ${Boolean(media.screen)} ${handRaisedAt}`,
    )
    .join('\n');
  // biome-ignore lint/correctness/useExhaustiveDependencies: only what is announced matters
  useEffect(() => {
    if (!isIn) return;
    const timer = setTimeout(() => {
      const now = knownOf(latest.current.participants);
      if (known.current) setText(changesOf(latest.current.words, known.current, now).join('. '));
      known.current = now;
    }, GATHER_MS);
    return () => clearTimeout(timer);
  }, [shape, isIn]);
  return (
    <div className="oc-hidden" aria-live="polite" data-announcer="">
      {text}
    </div>
  );
}

export function knownOf(participants: readonly Participant[]): Known {
  return new Map(
    participants
      .filter(({ isLocal }) => !isLocal)
      .map(({ id, displayName, media, handRaisedAt }) => [
        id,
        {
          name: displayName,
          hasScreen: Boolean(media.screen),
          hasHand: handRaisedAt !== undefined,
        },
      ]),
  );
}

/** What has happened between the two, in sentences. */
export function changesOf({ announce }: Words, before: Known, now: Known): string[] {
  const joined = [...now].filter(([id]) => !before.has(id)).map(([, { name }]) => name);
  const left = [...before].filter(([id]) => !now.has(id)).map(([, { name }]) => name);
  const screens = [...now].filter(([id, { hasScreen }]) => hasScreen && !before.get(id)?.hasScreen);
  const hands = [...now].filter(([id, { hasHand }]) => hasHand && !before.get(id)?.hasHand);
  return [
    ...(joined.length > 0 ? [announce.joined(joined)] : []),
    ...(left.length > 0 ? [announce.left(left)] : []),
    ...screens.map(([, { name }]) => announce.screen(name)),
    ...hands.map(([, { name }]) => announce.hand(name)),
  ];
}
