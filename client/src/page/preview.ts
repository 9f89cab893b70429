import { useCallback, useEffect, useRef, useState } from 'react';
import { constraintsOf } from '../sdk/index';

/** What is open in the lobby. */
export interface Preview {
  camera?: MediaStreamTrack | undefined;
  microphone?: MediaStreamTrack | undefined;
}

/** Opens what is switched on, both by one question, and closes what is not; `take` gives it away. */
export function usePreview(
  wantsCamera: boolean,
  wantsMicrophone: boolean,
  video: MediaTrackConstraints,
) {
  const [tracks, setTracks] = useState<Preview>({});
  const [problem, setProblem] = useState('');
  const open = useRef<Preview>({});
  const settings = useRef(video);
  // One question at a time: browsers show the second one over the first.
  const queue = useRef<Promise<void>>(Promise.resolve());
  const isGone = useRef(false);

  useEffect(() => {
    isGone.current = false;
    const wanted = { camera: wantsCamera, microphone: wantsMicrophone };
    queue.current = queue.current.then(async () => {
      if (isGone.current) return;
      for (const device of ['camera', 'microphone'] as const) {
        if (wanted[device]) continue;
        open.current[device]?.stop();
        delete open.current[device];
      }
      const missing = {
        camera: wanted.camera && !open.current.camera,
        microphone: wanted.microphone && !open.current.microphone,
      };
      setProblem(await openMissing(missing, open.current, { camera: settings.current }));
      if (isGone.current) stop(open.current);
      else setTracks({ ...open.current });
    });
  }, [wantsCamera, wantsMicrophone]);

  useEffect(() => {
    return () => {
      isGone.current = true;
      stop(open.current);
    };
  }, []);

  const take = useCallback((): Preview => {
    isGone.current = true;
    const taken = open.current;
    open.current = {};
    return taken;
  }, []);

  return { ...tracks, problem, take };
}

/** Adds to what is open what is missing; what is wrong with the camera, in words. */
async function openMissing(
  missing: { camera: boolean; microphone: boolean },
  open: Preview,
  options: { camera: MediaTrackConstraints },
): Promise<string> {
  if (!missing.camera && !missing.microphone) return '';
  const devices = navigator.mediaDevices as MediaDevices | undefined;
  const ask = async (constraints: MediaStreamConstraints) => {
    const stream = await devices?.getUserMedia(constraints);
    for (const track of stream?.getTracks() ?? []) {
      open[track.kind === 'video' ? 'camera' : 'microphone'] = track;
    }
  };
  const camera = missing.camera ? constraintsOf('camera', options) : {};
  const microphone = missing.microphone ? constraintsOf('microphone') : {};
  try {
    await ask({ ...camera, ...microphone });
  } catch (error) {
    const isDenied = error instanceof DOMException && error.name === 'NotAllowedError';
    // One of the two may be missing: the other is shown without it.
    if (!isDenied && missing.camera && missing.microphone) {
      await ask(camera).catch(() => undefined);
    }
  }
  return missing.camera && !open.camera ? 'No camera here. You can join without one.' : '';
}

function stop(tracks: Preview): void {
  tracks.camera?.stop();
  tracks.microphone?.stop();
}
