import { useEffect, useRef, useState } from 'react';
import type { MeetingSnapshot, Participant } from '../sdk/index';
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

/** Of what is written, so much is read out: more is read in the chat. */
const MAX_SAID = 200;

/**
 * Says what becomes of one's own microphone and camera, which keys and hosts change too, and what others write while the chat
 * is closed, where nobody is read to from. Draws nothing.
 */
export function OwnAnnouncer({
  snapshot: { devices, chat },
  isChatOpen,
}: {
  snapshot: Pick<MeetingSnapshot, 'devices' | 'chat'>;
  isChatOpen: boolean;
}) {
  const words = useWords().announce;
  const [news, setNews] = useState({ text: '', count: 0 });
  const last = chat.at(-1);
  const known = useRef({ microphone: devices.microphone, camera: devices.camera, said: last?.id });
  useEffect(() => {
    const tell = (text: string) => setNews(({ count }) => ({ text, count: count + 1 }));
    const before = known.current;
    // What is starting is not on yet.
    const now = (device: 'microphone' | 'camera') =>
      devices[device] === 'starting' ? before[device] : devices[device];
    known.current = { microphone: now('microphone'), camera: now('camera'), said: last?.id };
    const is = (device: 'microphone' | 'camera') => known.current[device] === 'on';
    const has = (device: 'microphone' | 'camera') => is(device) !== (before[device] === 'on');
    if (has('microphone')) tell(is('microphone') ? words.unmuted : words.muted);
    if (has('camera')) tell(is('camera') ? words.cameraOn : words.cameraOff);
    if (!last || last.mine || isChatOpen || last.id === before.said) return;
    tell(words.said(last.name, last.text.slice(0, MAX_SAID)));
  }, [devices, last, isChatOpen, words]);
  return (
    <div className="oc-hidden" aria-live="polite" data-own-news="">
      {/* The same said twice is said twice. */}
      <span key={news.count}>{news.text}</span>
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
