import { useEffect, useRef } from 'react';
import { CameraIcon, MicrophoneIcon, WarningIcon } from '../react/icons';
import { hueOf, initialsOf } from '../react/layout';
import { useLevel } from '../react/level';
import { useWords, type Words } from '../react/words/index';
import type { DeviceState, Preview } from './preview';

/** Oneself, as the others will see one, with the two switches. */
export function Mirror({
  tracks,
  states,
  name,
  camera,
  microphone,
  onCamera,
  onMicrophone,
}: {
  tracks: Preview;
  states: { camera: DeviceState; microphone: DeviceState };
  name: string;
  camera: boolean;
  microphone: boolean;
  onCamera: () => void;
  onMicrophone: () => void;
}) {
  const words = useWords();
  const video = useRef<HTMLVideoElement>(null);
  const level = useRef<HTMLButtonElement>(null);
  const track = tracks.camera;
  useEffect(() => {
    if (video.current) video.current.srcObject = track ? new MediaStream([track]) : null;
  }, [track]);
  useLevel(tracks.microphone, level);
  const problem = problemOf(words, states);
  return (
    <div className="page-mirror" data-camera={states.camera} data-microphone={states.microphone}>
      <video ref={video} autoPlay muted playsInline hidden={!track} />
      {!track && (
        <div className="page-mirror-off" style={{ '--oc-hue': hueOf(name) } as React.CSSProperties}>
          <div className="oc-avatar" aria-hidden="true">
            {initialsOf(name || '·')}
          </div>
          <p>{statusOf(words, states)}</p>
        </div>
      )}
      {problem && (
        <p className="page-problem" role="status">
          <WarningIcon />
          {problem}
        </p>
      )}
      <div className="page-toggles">
        <button
          ref={level}
          type="button"
          className="page-toggle"
          aria-pressed={microphone}
          aria-label={words.lobby.microphone}
          data-tip={words.lobby.microphone}
          onClick={onMicrophone}
        >
          <MicrophoneIcon off={!microphone} />
        </button>
        <button
          type="button"
          className="page-toggle"
          aria-pressed={camera}
          aria-label={words.lobby.camera}
          data-tip={words.lobby.camera}
          onClick={onCamera}
        >
          <CameraIcon off={!camera} />
        </button>
      </div>
    </div>
  );
}

function statusOf(words: Words, { camera }: { camera: DeviceState }): string {
  if (camera === 'asking') return words.lobby.starting;
  return camera === 'off' || camera === 'on' ? words.lobby.cameraIsOff : '';
}

/** What keeps a device from being used, or from being used yet; the camera's before the microphone's. */
function problemOf(
  words: Words,
  { camera, microphone }: { camera: DeviceState; microphone: DeviceState },
): string | undefined {
  if (camera === 'asking' || microphone === 'asking') return words.lobby.asking;
  if (camera !== 'off' && camera !== 'on') return words.lobby.problems[camera];
  if (microphone !== 'off' && microphone !== 'on') return words.lobby.noMicrophone;
  return undefined;
}
