import { memo, useEffect, useRef } from 'react';
import type { EncryptionState, Participant, Source } from '../sdk/index';
import { ENCRYPTION_TEXT, isPlayable } from './encryption';
import { LockIcon, MicrophoneIcon, ScreenIcon } from './icons';
import { hueOf, initialsOf } from './layout';

export interface TileProps {
  participant: Participant;
  source: 'camera' | 'screen';
  style?: React.CSSProperties;
}

/**
 * One picture of one participant, or their initials. Drawn anew when that participant has changed: when someone speaks,
 * the other tiles stay as they are.
 */
export const Tile = memo(function Tile({ participant, source, style }: TileProps) {
  const { id, displayName, isLocal, isSpeaking, media, encryption } = participant;
  const picture = media[source];
  const isMuted = !media.microphone || media.microphone.paused;
  // What cannot be decrypted would be a black picture.
  const hasPicture = picture?.track && !picture.paused && (isLocal || isPlayable(encryption));
  const isCamera = source === 'camera';
  return (
    <figure
      className={`oc-tile oc-tile--${source}`}
      style={{ ...style, '--oc-hue': hueOf(id) } as React.CSSProperties}
      data-peer-id={id}
      data-source={source}
      data-local={isLocal}
      data-muted={isMuted}
      data-speaking={isCamera && isSpeaking}
      data-picture={Boolean(hasPicture)}
      data-encryption={encryption}
    >
      {hasPicture ? (
        <Video track={picture.track} isMirrored={isLocal && isCamera} />
      ) : (
        <div className="oc-avatar" aria-hidden="true">
          {initialsOf(displayName)}
        </div>
      )}
      <figcaption className="oc-name">
        {isCamera ? isMuted && <MicrophoneIcon off /> : <ScreenIcon />}
        <span>{captionOf(displayName, isLocal, source)}</span>
        {encryption && <EncryptionMark state={encryption} />}
      </figcaption>
    </figure>
  );
});

/** A lock while all is well, and words when it is not. */
function EncryptionMark({ state }: { state: EncryptionState }) {
  if (state === 'pending') return null;
  const isWell = state === 'encrypted';
  return (
    <em className="oc-lock" data-well={isWell} title={ENCRYPTION_TEXT[state]}>
      <LockIcon open={state === 'not-encrypted'} />
      {isWell ? <i className="oc-hidden">{ENCRYPTION_TEXT[state]}</i> : ENCRYPTION_TEXT[state]}
    </em>
  );
}

/** Plays someone's voice; draws nothing. */
export function Voice({ track, onBlocked }: { track: MediaStreamTrack; onBlocked: () => void }) {
  const element = useRef<HTMLAudioElement>(null);
  useEffect(() => {
    const audio = element.current;
    if (!audio) return;
    audio.srcObject = new MediaStream([track]);
    audio.play().catch((error: unknown) => {
      if (error instanceof DOMException && error.name === 'NotAllowedError') onBlocked();
    });
    return () => {
      audio.srcObject = null;
    };
  }, [track, onBlocked]);
  // biome-ignore lint/a11y/useMediaCaption: live speech has no captions
  return <audio ref={element} autoPlay />;
}

function Video({ track, isMirrored }: { track: MediaStreamTrack | null; isMirrored: boolean }) {
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

function captionOf(displayName: string, isLocal: boolean, source: Source): string {
  const name = isLocal ? `${displayName} (you)` : displayName;
  if (source !== 'screen') return name;
  return isLocal ? 'Your screen' : `${displayName}’s screen`;
}
