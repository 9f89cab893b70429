import { useRef } from 'react';
import type { Meeting, MeetingSnapshot } from '../sdk/index';
import { DeviceSelect } from './DeviceSelect';
import { Dialog } from './Dialog';
import { useDeviceList } from './deviceList';
import { useLevel } from './level';
import { PreferenceChoices } from './PreferenceChoices';
import type { View, ViewActions } from './view';
import { useWords } from './words/index';

/** Which devices are used; what is chosen is used at once. */
export function DevicesDialog({
  meeting,
  snapshot,
  view,
  actions,
  onClose,
}: {
  meeting: Meeting;
  snapshot: MeetingSnapshot;
  view: View;
  actions: ViewActions;
  onClose: () => void;
}) {
  const words = useWords().devices;
  const level = useRef<HTMLDivElement>(null);
  const own = snapshot.participants.find(({ isLocal }) => isLocal)?.media;
  const [camera, microphone] = [own?.camera?.track, own?.microphone?.track];
  const devices = useDeviceList(`${camera?.id} ${microphone?.id}`);
  useLevel(microphone, level);
  const use = (device: 'camera' | 'microphone') => (deviceId: string) => {
    // What goes wrong is in the snapshot.
    meeting.switchDevice(device, deviceId).catch(() => undefined);
  };
  return (
    <Dialog title={words.title} onClose={onClose}>
      <div className="oc-stack">
        <DeviceSelect
          kind="videoinput"
          label={words.camera}
          devices={devices}
          chosen={camera?.getSettings().deviceId}
          onChoose={use('camera')}
        />
        <DeviceSelect
          kind="audioinput"
          label={words.microphone}
          devices={devices}
          chosen={microphone?.getSettings().deviceId}
          onChoose={use('microphone')}
        />
        <div className="oc-meter" ref={level} role="img" aria-label={words.level}>
          <i />
        </div>
        {canChooseSpeaker() && (
          <DeviceSelect
            kind="audiooutput"
            label={words.speaker}
            devices={devices}
            chosen={view.speakerId}
            onChoose={(deviceId) => actions.setSpeaker(deviceId)}
          />
        )}
        <PreferenceChoices />
      </div>
    </Dialog>
  );
}

function canChooseSpeaker(): boolean {
  return 'setSinkId' in HTMLMediaElement.prototype;
}
