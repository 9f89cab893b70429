import { useState } from 'react';
import type { Meeting, Participant } from '../sdk/index';
import { notDone } from './HostPanel';
import { CameraIcon, CloseIcon, MicrophoneIcon } from './icons';
import { useWords } from './words/index';

/** What hosts do with someone else: mute, switch the camera off, remove, which is asked for twice. */
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
  const { id, displayName, media } = participant;
  const act = (action: Promise<void>) => {
    close();
    action.catch(notDone);
  };
  return (
    <>
      {media.microphone && !media.microphone.paused && (
        <button
          type="button"
          className="oc-item"
          data-host="mute"
          onClick={() => act(meeting.hostMute(id, 'microphone'))}
        >
          <MicrophoneIcon off />
          {words.mute}
        </button>
      )}
      {media.camera && !media.camera.paused && (
        <button
          type="button"
          className="oc-item"
          data-host="camera"
          onClick={() => act(meeting.hostMute(id, 'camera'))}
        >
          <CameraIcon off />
          {words.stopVideo}
        </button>
      )}
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
