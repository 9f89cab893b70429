import { useEffect, useRef } from 'react';
import type { Participant } from '../sdk/index';

/** Plays everyone else's voice, and the sound of their screens; draws nothing. */
export function Voices({
  participants,
  volumes,
  speakerId,
  onBlocked,
}: {
  participants: readonly Participant[];
  volumes: Readonly<Record<string, number>>;
  speakerId: string | undefined;
  onBlocked: () => void;
}) {
  return participants
    .filter((participant) => !participant.isLocal)
    .flatMap(({ id, media }) =>
      [media.microphone, media.screenAudio].map(
        (sound) =>
          sound?.track && (
            <Voice
              key={sound.producerId}
              track={sound.track}
              volume={volumes[id] ?? 1}
              speakerId={speakerId}
              onBlocked={onBlocked}
            />
          ),
      ),
    );
}

function Voice({
  track,
  volume,
  speakerId,
  onBlocked,
}: {
  track: MediaStreamTrack;
  volume: number;
  speakerId: string | undefined;
  onBlocked: () => void;
}) {
  const element = useRef<HTMLAudioElement>(null);
  useEffect(() => {
    const audio = element.current;
    if (!audio) return;
    audio.srcObject = new MediaStream([track]);
    play(audio, onBlocked);
    return () => {
      audio.srcObject = null;
    };
  }, [track, onBlocked]);
  useEffect(() => {
    if (element.current) element.current.volume = volume;
  }, [volume]);
  useEffect(() => {
    if (speakerId === undefined) return;
    element.current
      ?.setSinkId?.(speakerId)
      .catch((error) => console.info('opencall: sound stays where it is', error));
  }, [speakerId]);
  // biome-ignore lint/a11y/useMediaCaption: live speech has no captions
  return <audio ref={element} className={VOICE} autoPlay />;
}

const VOICE = 'oc-voice';

/** After a click sound may be played: all of it below this element. `blocked` if the browser says no all the same. */
export function playAll(root: HTMLElement | null, blocked: () => void): void {
  const voices = root?.querySelectorAll<HTMLAudioElement>(`audio.${VOICE}`) ?? [];
  for (const audio of voices) play(audio, blocked);
}

/** What fails for another reason than permission no click would mend: it has ended, for example. */
function play(audio: HTMLAudioElement, blocked: () => void): void {
  audio.play().catch((error: unknown) => {
    if (error instanceof DOMException && error.name === 'NotAllowedError') blocked();
  });
}
