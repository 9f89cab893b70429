import type { Meeting, MeetingSnapshot } from '../sdk/index';

/** What the buttons and the keys do with one's own devices; what goes wrong is in the snapshot. */
export interface DeviceActions {
  toggleMicrophone(): void;
  toggleCamera(): void;
  toggleScreen(): void;
  /** Opens the microphone while a key is held. */
  talk(isHeld: boolean): void;
}

/** Whether this browser can share a screen; phones cannot. */
export function canShareScreen(): boolean {
  return typeof globalThis.navigator?.mediaDevices?.getDisplayMedia === 'function';
}

export function deviceActions(
  meeting: Meeting,
  devices: () => MeetingSnapshot['devices'] = () => meeting.snapshot.devices,
): DeviceActions {
  const ignore = () => undefined;
  const run = (done: Promise<void>) => void done.catch(ignore);
  const isOver = () => meeting.snapshot.status === 'left';
  let isTalking = false;
  return {
    toggleMicrophone: () => {
      if (isOver()) return;
      run(devices().microphone === 'on' ? meeting.mute() : meeting.unmute());
    },
    toggleCamera: () => {
      if (isOver()) return;
      run(devices().camera === 'on' ? meeting.disable('camera') : meeting.enable('camera'));
    },
    toggleScreen: () => {
      if (isOver()) return;
      run(devices().screen === 'on' ? meeting.disable('screen') : meeting.enable('screen'));
    },
    talk: (isHeld) => {
      if (isHeld === isTalking) return;
      // Whoever is heard anyway stays so.
      if (isHeld && devices().microphone !== 'muted') return;
      isTalking = isHeld;
      run(isHeld ? meeting.unmute() : meeting.mute());
    },
  };
}
