import { useCallback, useEffect, useRef, useState } from 'react';
import { constraintsOf } from '../sdk/index';

type Device = 'camera' | 'microphone';

const DEVICES: readonly Device[] = ['camera', 'microphone'];

/** What is open in the lobby. */
export type Preview = Partial<Record<Device, MediaStreamTrack>>;

/** Where a device stands in the lobby. */
export type DeviceState = 'off' | 'asking' | 'on' | 'denied' | 'missing' | 'busy' | 'insecure';

/** What is wanted: on or off, and which; any if none is named. */
export interface Wish {
  isOn: boolean;
  deviceId: string | undefined;
}

export interface Lobby {
  tracks: Preview;
  states: Record<Device, DeviceState>;
  /** Gives away what is open, once nothing is being opened any more. */
  take: () => Promise<Preview>;
}

/** What plugging something in may mend. */
const LACKING: readonly DeviceState[] = ['missing', 'busy'];

const OFF: Record<Device, DeviceState> = { camera: 'off', microphone: 'off' };

/** Opens what is switched on, both by one question, and closes what is not. */
export function usePreview(camera: Wish, microphone: Wish, video: MediaTrackConstraints): Lobby {
  const [shown, setShown] = useState({ tracks: {} as Preview, states: OFF });
  const open = useRef<Preview>({});
  const settings = useRef(video);
  // One question at a time: browsers show the second one over the first.
  const queue = useRef<Promise<void>>(Promise.resolve());
  const isGone = useRef(false);
  const isTaken = useRef(false);
  /** Grows when something was unplugged, or plugged in. */
  const [changes, setChanges] = useState(0);
  const unplugged = useCallback((device: Device, track: MediaStreamTrack) => {
    if (open.current[device] !== track || isTaken.current) return;
    delete open.current[device];
    setChanges((before) => before + 1);
  }, []);
  const lacks = DEVICES.some((one) => LACKING.includes(shown.states[one]));
  useEffect(() => {
    const devices = globalThis.navigator?.mediaDevices as MediaDevices | undefined;
    if (!lacks || !devices) return;
    const changed = () => setChanges((before) => before + 1);
    devices.addEventListener?.('devicechange', changed);
    return () => devices.removeEventListener?.('devicechange', changed);
  }, [lacks]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: a change of what is plugged in is looked at anew
  useEffect(() => {
    isGone.current = false;
    const wishes: Record<Device, Wish> = {
      camera: { isOn: camera.isOn, deviceId: camera.deviceId },
      microphone: { isOn: microphone.isOn, deviceId: microphone.deviceId },
    };
    queue.current = queue.current.then(async () => {
      if (isGone.current || isTaken.current) return;
      closeUnwanted(open.current, wishes);
      const missing = DEVICES.filter((one) => wishes[one].isOn && !open.current[one]);
      const states = { ...OFF };
      for (const one of DEVICES) if (open.current[one]) states[one] = 'on';
      for (const one of missing) states[one] = 'asking';
      setShown({ tracks: { ...open.current }, states: { ...states } });
      Object.assign(states, await openMissing(missing, wishes, open.current, settings.current));
      for (const one of missing) {
        const track = open.current[one];
        track?.addEventListener('ended', () => unplugged(one, track));
      }
      if (isGone.current) stop(open.current);
      else setShown({ tracks: { ...open.current }, states });
    });
  }, [camera.isOn, camera.deviceId, microphone.isOn, microphone.deviceId, changes, unplugged]);

  useEffect(() => {
    return () => {
      if (isTaken.current) return;
      isGone.current = true;
      stop(open.current);
    };
  }, []);

  const take = useCallback(async (): Promise<Preview> => {
    isTaken.current = true;
    await queue.current;
    const taken = open.current;
    open.current = {};
    return taken;
  }, []);

  return { ...shown, take };
}

/** What is off, and what is on but another than the one that is wanted. */
function closeUnwanted(open: Preview, wishes: Record<Device, Wish>): void {
  for (const device of DEVICES) {
    const { isOn, deviceId } = wishes[device];
    const track = open[device];
    const isOther = deviceId !== undefined && track?.getSettings().deviceId !== deviceId;
    if (!track || (isOn && !isOther)) continue;
    track.stop();
    delete open[device];
  }
}

/** Adds to what is open what is missing, and says how that went. */
async function openMissing(
  missing: readonly Device[],
  wishes: Record<Device, Wish>,
  open: Preview,
  video: MediaTrackConstraints,
): Promise<Partial<Record<Device, DeviceState>>> {
  const states: Partial<Record<Device, DeviceState>> = {};
  const ask = async (devices: readonly Device[]) => {
    try {
      const media = navigator.mediaDevices as MediaDevices | undefined;
      if (!media) throw new DOMException('no https', 'InsecureError');
      const wanted = devices.map((one) => wish(one, wishes[one].deviceId, video));
      const stream = await media.getUserMedia(Object.assign({}, ...wanted));
      for (const track of stream.getTracks()) {
        open[track.kind === 'video' ? 'camera' : 'microphone'] = track;
      }
      for (const one of devices) states[one] = open[one] ? 'on' : 'missing';
    } catch (error) {
      for (const one of devices) states[one] = stateOf(error);
    }
  };
  if (missing.length === 0) return states;
  await ask(missing);
  if (missing.length < 2 || states.camera === 'on' || states.camera === 'insecure') return states;
  // One of the two may be missing or forbidden: the other is opened without it, but nobody is asked twice.
  const isDenied = states.camera === 'denied';
  for (const one of missing) if (!isDenied || (await isGranted(one))) await ask([one]);
  return states;
}

function wish(device: Device, deviceId: string | undefined, camera: MediaTrackConstraints) {
  return constraintsOf(device, {
    camera,
    ...(deviceId ? { [device]: { ...(device === 'camera' ? camera : {}), deviceId } } : {}),
  });
}

function stateOf(error: unknown): DeviceState {
  const name = error instanceof DOMException ? error.name : '';
  if (name === 'InsecureError') return 'insecure';
  if (name === 'NotAllowedError' || name === 'SecurityError') return 'denied';
  return name === 'NotReadableError' || name === 'AbortError' ? 'busy' : 'missing';
}

async function isGranted(device: Device): Promise<boolean> {
  try {
    const query = { name: device } as unknown as PermissionDescriptor;
    return (await navigator.permissions.query(query)).state === 'granted';
  } catch {
    return false;
  }
}

function stop(preview: Preview): void {
  for (const track of [preview.camera, preview.microphone]) track?.stop();
}
