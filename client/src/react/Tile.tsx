import { memo, useEffect, useRef } from 'react';
import type { EncryptionState, Participant, Source } from '../sdk/index';
import { isPlayable } from './encryption';
import { HandIcon, LockIcon, MicrophoneIcon, NetworkIcon, PinIcon, ScreenIcon } from './icons';
import { hueOf, initialsOf } from './layout';
import { useLevel } from './level';
import type { Bars } from './network';
import { TileMenu } from './TileMenu';
import type { Quality, ViewActions } from './view';
import { useWords, type Words } from './words/index';
import { Zoomable } from './Zoomable';

export interface TileProps {
  participant: Participant;
  source: 'camera' | 'screen';
  x: number;
  y: number;
  width: number;
  height: number;
  /** Shown large. */
  isMain: boolean;
  isPinned: boolean;
  bars: Bars | undefined;
  volume: number;
  quality: Quality;
  actions: ViewActions;
}

/**
 * One picture of one participant, or their initials. Drawn anew when that participant has changed: when someone speaks,
 * the other tiles stay as they are.
 */
export const Tile = memo(function Tile(props: TileProps) {
  const { participant, source, isMain, isPinned, bars, quality, actions } = props;
  const { id, displayName, isLocal, isSpeaking, media, encryption, reaction } = participant;
  const words = useWords();
  const picture = media[source];
  const isMuted = !media.microphone || media.microphone.paused;
  const isCamera = source === 'camera';
  const isLeftOut = isCamera && !isLocal && quality === 'off';
  // What cannot be decrypted would be a black picture.
  const hasPicture =
    picture?.track && !picture.paused && !isLeftOut && (isLocal || isPlayable(encryption));
  const video = hasPicture && <Video track={picture.track} isMirrored={isLocal && isCamera} />;
  const name = captionOf(words, displayName, isLocal, source);
  return (
    <figure
      className={`oc-tile oc-tile--${source}`}
      style={{ ...placeOf(props), '--oc-hue': hueOf(id) } as React.CSSProperties}
      data-tile={isCamera ? id : `screen:${id}`}
      data-peer-id={id}
      data-source={source}
      data-local={isLocal}
      data-main={isMain}
      data-muted={isMuted}
      data-speaking={isCamera && isSpeaking}
      data-picture={Boolean(hasPicture)}
      data-hand={participant.handRaisedAt !== undefined}
      data-encryption={encryption}
    >
      {video && !isCamera && isMain ? <Zoomable name={name}>{video}</Zoomable> : video}
      {!video && (
        <div className="oc-avatar" aria-hidden="true">
          {initialsOf(displayName)}
        </div>
      )}
      <figcaption className="oc-name">
        {isCamera ? <Voice participant={participant} isMuted={isMuted} /> : <ScreenIcon />}
        {isCamera && participant.handRaisedAt !== undefined && <HandMark words={words} />}
        <span>{name}</span>
        {isPinned && <PinMark words={words} />}
        {encryption && <EncryptionMark state={encryption} />}
        {isCamera && bars !== undefined && <NetworkMark bars={bars} />}
      </figcaption>
      {isCamera && reaction && (
        <i key={reaction.at} className="oc-reaction">
          {reaction.emoji}
        </i>
      )}
      <TileMenu
        name={name}
        participant={participant}
        source={source}
        isPinned={isPinned}
        volume={props.volume}
        quality={quality}
        actions={actions}
      />
    </figure>
  );
});

function placeOf({ x, y, width, height }: TileProps): React.CSSProperties {
  return { left: x, top: y, width, height };
}

/** How loud someone is while they speak; a crossed microphone while they cannot. */
function Voice({ participant, isMuted }: { participant: Participant; isMuted: boolean }) {
  const words = useWords().tile;
  const meter = useRef<HTMLElement>(null);
  const { isSpeaking, media } = participant;
  useLevel(isSpeaking ? media.microphone?.track : undefined, meter);
  if (isMuted) {
    return (
      <i className="oc-mark oc-mark--muted">
        <MicrophoneIcon off />
        <b className="oc-hidden">{words.muted}</b>
      </i>
    );
  }
  if (!isSpeaking) return null;
  return (
    <i ref={meter} className="oc-mark oc-voice">
      <b />
      <b />
      <b />
      <b className="oc-hidden">{words.speaking}</b>
    </i>
  );
}

function HandMark({ words }: { words: Words }) {
  return (
    <i className="oc-mark oc-mark--hand">
      <HandIcon />
      <b className="oc-hidden">{words.tile.handRaised}</b>
    </i>
  );
}

function PinMark({ words }: { words: Words }) {
  return (
    <i className="oc-mark">
      <PinIcon />
      <b className="oc-hidden">{words.tile.pinned}</b>
    </i>
  );
}

/** Three bars while they are not all full, for what is well needs no sign. */
function NetworkMark({ bars }: { bars: Bars }) {
  const words = useWords().tile;
  return (
    <i className="oc-mark oc-network" data-bars={bars} title={words.network[bars]}>
      <NetworkIcon bars={bars} />
      <b className="oc-hidden">{words.network[bars]}</b>
    </i>
  );
}

/** A lock while all is well, and words when it is not. */
function EncryptionMark({ state }: { state: EncryptionState }) {
  const words = useWords().encryption.states;
  if (state === 'pending') return null;
  const isWell = state === 'encrypted';
  return (
    <em className="oc-lock" data-well={isWell} title={words[state]}>
      <LockIcon open={state === 'not-encrypted'} />
      {isWell ? <i className="oc-hidden">{words[state]}</i> : words[state]}
    </em>
  );
}

/** A moving picture; the element stays while its track is exchanged. */
export function Video({
  track,
  isMirrored,
}: {
  track: MediaStreamTrack | null;
  isMirrored: boolean;
}) {
  const element = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    const video = element.current;
    if (!video || !track) return;
    video.srcObject = new MediaStream([track]);
    return () => {
      video.srcObject = null;
    };
  }, [track]);
  return (
    <video
      ref={element}
      className={isMirrored ? 'oc-video oc-video--mirrored' : 'oc-video'}
      autoPlay
      playsInline
      muted
    />
  );
}

function captionOf(
  { tile: words }: Words,
  displayName: string,
  isLocal: boolean,
  source: Source,
): string {
  if (source === 'screen') return isLocal ? words.yourScreen : words.screenOf(displayName);
  return isLocal ? words.you(displayName) : displayName;
}
