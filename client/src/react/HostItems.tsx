import { useState } from 'react';
import type { Meeting, Participant } from '../sdk/index';
import { notDone } from './HostPanel';
import { CameraIcon, CloseIcon, MicrophoneIcon } from './icons';
import { useWords } from './words/index';

const ITEMS = {
  microphone: {
    Icon: MicrophoneIcon,
    mute: { name: 'mute', word: 'mute' },
    allow: { name: 'allow-microphone', word: 'allowSound' },
  },
  camera: {
    Icon: CameraIcon,
    mute: { name: 'camera', word: 'stopVideo' },
    allow: { name: 'allow-camera', word: 'allowVideo' },
  },
} as const;

/**
 * What hosts do with someone else: mute, switch the camera off, let both be switched on again, and remove, which is asked for
 * twice.
 */
export function HostItems({
  meeting,
  participant,
  close,
}: {
  meeting: Meeting;
  participant: Participant;
  close: () => void;
}) {
  const words = useWords().hosts;
  const [isAsked, setAsked] = useState(false);
  const { id, displayName } = participant;
  const act = (action: Promise<void>) => {
    close();
    action.catch(notDone);
  };
  return (
    <>
      {(['microphone', 'camera'] as const).map((source) => {
        const wish = wishFor(meeting, participant, source);
        if (!wish) return null;
        const { Icon, mute, allow } = ITEMS[source];
        return (
          <button
            key={source}
            type="button"
            className="oc-item"
            data-host={wish === 'mute' ? mute.name : allow.name}
            onClick={() => act(meeting.hostMute(id, source, wish === 'mute'))}
          >
            <Icon off={wish === 'mute'} />
            {words[wish === 'mute' ? mute.word : allow.word]}
          </button>
        );
      })}
      <button
        type="button"
        className="oc-item oc-item--danger"
        data-host="remove"
        onClick={() => (isAsked ? act(meeting.remove(id)) : setAsked(true))}
      >
        <CloseIcon />
        {isAsked ? words.removeSure(displayName) : words.remove}
      </button>
    </>
  );
}

/** What is open can be muted. What is muted may be so by another host, of which nobody is told: it can be allowed. */
function wishFor(
  { snapshot }: Meeting,
  { id, media }: Participant,
  source: 'microphone' | 'camera',
): 'mute' | 'allow' | undefined {
  const sent = media[source];
  if (sent && !sent.paused) return 'mute';
  const isOurs = snapshot.mutes.some((one) => one.participantId === id && one.source === source);
  return sent || isOurs ? 'allow' : undefined;
}
