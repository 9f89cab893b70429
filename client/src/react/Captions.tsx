import { useEffect, useState } from 'react';
import type { Caption, MeetingSnapshot } from '../sdk/index';
import { useWords } from './words/index';

/** How long something said stays, for those who read slowly. */
export const STAY_MS = 8_000;

/** Lines at a time: more would be another conversation than the one that is heard. */
const MAX_LINES = 3;

/** What is said, with who says it, above the buttons; and for those who hear a page, once it is final. */
export function Captions({ snapshot }: { snapshot: MeetingSnapshot }) {
  const words = useWords().captions;
  const lines = useFresh(snapshot.captions);
  const nameOf = (caption: Caption) => {
    const speaker = snapshot.participants.find(({ id }) => id === caption.participantId);
    return speaker?.displayName ?? caption.participantId;
  };
  const last = snapshot.captions.findLast(({ interim }) => !interim);
  return (
    <>
      {lines.length > 0 && (
        <section className="oc-captions" aria-label={words.region}>
          {lines.map((caption) => (
            <p
              key={caption.utterance}
              data-interim={caption.interim}
              lang={caption.language}
              dir="auto"
              aria-hidden={caption.interim}
            >
              <b>{nameOf(caption)}</b> {caption.text}
            </p>
          ))}
        </section>
      )}
      <div className="oc-hidden" aria-live="polite" data-captions="" lang={last?.language}>
        {last && `${nameOf(last)}: ${last.text}`}
      </div>
    </>
  );
}

/** Those that are not over yet; the last ones of them. */
export function freshOf(captions: readonly Caption[], now: number): readonly Caption[] {
  return captions.filter(({ at }) => now - at < STAY_MS).slice(-MAX_LINES);
}

function useFresh(captions: readonly Caption[]): readonly Caption[] {
  const [now, setNow] = useState(() => Date.now());
  const lines = freshOf(captions, Math.max(now, captions.at(-1)?.at ?? 0));
  const next = lines.length > 0 ? Math.min(...lines.map(({ at }) => at + STAY_MS)) : undefined;
  useEffect(() => {
    if (next === undefined) return;
    const timer = setTimeout(() => setNow(Date.now()), Math.max(0, next - Date.now()) + 1);
    return () => clearTimeout(timer);
  }, [next]);
  return lines;
}
