import { memo, useState } from 'react';
import type { Participant } from '../sdk/index';
import { isPlayable } from './encryption';
import { CameraIcon, HandIcon, LockIcon, MicrophoneIcon, NetworkIcon, ScreenIcon } from './icons';
import { hueOf, initialsOf } from './layout';
import type { Bars } from './network';
import { TileMenu } from './TileMenu';
import type { View, ViewActions } from './view';
import { useWords } from './words/index';

/** Of fewer one finds anyone at a glance. */
const SEARCH_FROM = 8;

/** Everyone, by name, with what they send. */
export function PeoplePanel({
  participants,
  view,
  actions,
  network,
}: {
  participants: readonly Participant[];
  view: View;
  actions: ViewActions;
  network: ReadonlyMap<string, Bars>;
}) {
  const words = useWords().people;
  const [search, setSearch] = useState('');
  const wanted = search.trim().toLowerCase();
  const found = inOrder(participants).filter(({ displayName }) =>
    displayName.toLowerCase().includes(wanted),
  );
  return (
    <>
      {participants.length >= SEARCH_FROM && (
        <input
          type="search"
          className="oc-input oc-search"
          aria-label={words.search}
          placeholder={words.search}
          value={search}
          onChange={(event) => setSearch(event.target.value)}
        />
      )}
      <ul className="oc-list">
        {found.map((participant) => (
          <Person
            key={participant.id}
            participant={participant}
            isPinned={
              view.pinned?.source === 'camera' && view.pinned.participantId === participant.id
            }
            bars={network.get(participant.id)}
            volume={view.volumes[participant.id] ?? 1}
            quality={view.qualities[participant.id] ?? 'auto'}
            actions={actions}
          />
        ))}
      </ul>
      {found.length === 0 && <p className="oc-empty">{words.none}</p>}
    </>
  );
}

/** Whose hand is up comes first, and among them who raised it first. */
function inOrder(participants: readonly Participant[]): Participant[] {
  const since = ({ handRaisedAt }: Participant) => handRaisedAt ?? Number.POSITIVE_INFINITY;
  return [...participants].sort((a, b) => (since(a) === since(b) ? 0 : since(a) - since(b)));
}

const Person = memo(function Person({
  participant,
  isPinned,
  bars,
  volume,
  quality,
  actions,
}: {
  participant: Participant;
  isPinned: boolean;
  bars: Bars | undefined;
  volume: number;
  quality: View['qualities'][string];
  actions: ViewActions;
}) {
  const { tile: words, encryption } = useWords();
  const { id, displayName, isLocal, isSpeaking, media } = participant;
  const name = isLocal ? words.you(displayName) : displayName;
  const isMuted = !media.microphone || media.microphone.paused;
  const isSealed = participant.encryption;
  return (
    <li className="oc-person" data-speaking={isSpeaking} data-peer-id={id}>
      <i
        className="oc-avatar oc-avatar--small"
        style={{ '--oc-hue': hueOf(id) } as React.CSSProperties}
        aria-hidden="true"
      >
        {initialsOf(displayName)}
      </i>
      <span className="oc-person-name">{name}</span>
      {participant.handRaisedAt !== undefined && (
        <Sign label={words.handRaised} tone="accent">
          <HandIcon />
        </Sign>
      )}
      {isSealed && !isPlayable(isSealed) && (
        <Sign label={encryption.states[isSealed]} tone="warning">
          <LockIcon open />
        </Sign>
      )}
      {bars !== undefined && bars < 3 && (
        <Sign label={words.network[bars]} tone="warning">
          <NetworkIcon bars={bars} />
        </Sign>
      )}
      {media.screen && (
        <Sign label={words.screenOf(displayName)}>
          <ScreenIcon />
        </Sign>
      )}
      {!media.camera && (
        <Sign label={words.cameraOff}>
          <CameraIcon off />
        </Sign>
      )}
      <Sign
        label={isMuted ? words.muted : isSpeaking ? words.speaking : ''}
        tone={isMuted ? 'danger' : isSpeaking ? 'speaking' : undefined}
      >
        <MicrophoneIcon off={isMuted} />
      </Sign>
      <TileMenu
        name={name}
        participant={participant}
        source="camera"
        isPinned={isPinned}
        volume={volume}
        quality={quality}
        actions={actions}
      />
    </li>
  );
});

function Sign({
  label,
  tone,
  children,
}: {
  label: string;
  tone?: 'warning' | 'danger' | 'accent' | 'speaking' | undefined;
  children: React.ReactNode;
}) {
  return (
    <i className="oc-sign" data-tone={tone} title={label}>
      {children}
      {label && <b className="oc-hidden">{label}</b>}
    </i>
  );
}
