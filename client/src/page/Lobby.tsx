import { type FormEvent, useState } from 'react';
import { DeviceSelect } from '../react/DeviceSelect';
import { useDeviceList } from '../react/deviceList';
import { SettingsIcon } from '../react/icons';
import { Popover } from '../react/Popover';
import { PreferenceChoices } from '../react/PreferenceChoices';
import { usePreferences, useWords } from '../react/words/index';
import { chosenDevices, rememberDevice } from './chosenDevices';
import { LockField } from './LockField';
import { Mirror } from './Mirror';
import { lasting } from './memory';
import { type Preview, usePreview } from './preview';
import { useDoors } from './server';
import { chooseLock, type Lock, type Settings } from './settings';

/** What the visitor chose. */
export interface Choice {
  room: string;
  name: string;
  camera: boolean;
  microphone: boolean;
  lock: Lock;
  /** What was open in the lobby, and goes on in the meeting; what is not in it could not be opened. */
  preview?: Promise<Preview>;
}

/** Before the meeting: who, where, with what, and a look in the mirror. */
export function Lobby({
  settings,
  onJoin,
}: {
  settings: Settings;
  onJoin: (choice: Choice) => void;
}) {
  const words = useWords();
  const { theme } = usePreferences();
  const [room, setRoom] = useState(settings.room);
  const [name, setName] = useState(settings.name);
  const [camera, setCamera] = useState(settings.camera);
  const [microphone, setMicrophone] = useState(settings.microphone);
  const [isLocked, setLocked] = useState(settings.lock !== undefined);
  const [passphrase, setPassphrase] = useState('');
  const [ids, setIds] = useState(() => chosenDevices(lasting));
  const { tracks, states, take } = usePreview(
    { isOn: camera, deviceId: ids.camera },
    { isOn: microphone, deviceId: ids.microphone },
    settings.video,
  );
  const devices = useDeviceList(tracks);
  const choose = (device: 'camera' | 'microphone') => (deviceId: string) => {
    rememberDevice(device, deviceId, lasting);
    setIds((before) => ({ ...before, [device]: deviceId || undefined }));
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const lock = chooseLock(isLocked, passphrase, settings.lock);
    const choice = { room: room.trim(), name: name.trim(), camera, microphone, lock };
    onJoin({ ...choice, preview: take() });
  };
  return (
    <main className="oc-root page-lobby" data-theme={theme}>
      <header className="page-brand">
        <img src="/icon.svg" alt="" width="32" height="32" />
        <h1>{words.lobby.brand}</h1>
        <p>{words.lobby.slogan}</p>
        <Popover
          label={words.devices.settings}
          className="oc-button oc-button--bare page-settings"
          icon={<SettingsIcon />}
        >
          {() => <PreferenceChoices />}
        </Popover>
      </header>
      <form className="page-room" onSubmit={submit}>
        <section className="page-look" aria-label={words.devices.title}>
          <Mirror
            tracks={tracks}
            states={states}
            name={name}
            camera={camera}
            microphone={microphone}
            onCamera={() => setCamera(!camera)}
            onMicrophone={() => setMicrophone(!microphone)}
          />
          <div className="page-devices">
            <DeviceSelect
              kind="videoinput"
              label={words.devices.camera}
              devices={devices}
              chosen={tracks.camera?.getSettings().deviceId ?? ids.camera}
              onChoose={choose('camera')}
            />
            <DeviceSelect
              kind="audioinput"
              label={words.devices.microphone}
              devices={devices}
              chosen={tracks.microphone?.getSettings().deviceId ?? ids.microphone}
              onChoose={choose('microphone')}
            />
          </div>
        </section>
        <section className="page-card" aria-labelledby="page-ready">
          <h2 id="page-ready">{words.lobby.title}</h2>
          <label className="oc-field">
            <span>{words.lobby.name}</span>
            <input
              className="oc-input"
              name="name"
              value={name}
              maxLength={64}
              autoComplete="name"
              placeholder="Ann"
              required
              onChange={(event) => setName(event.target.value)}
            />
          </label>
          <label className="oc-field">
            <span>{words.lobby.room}</span>
            <input
              className="oc-input"
              name="room"
              value={room}
              maxLength={64}
              autoComplete="off"
              placeholder="team-standup"
              required
              readOnly={settings.token !== undefined}
              onChange={(event) => setRoom(event.target.value)}
            />
          </label>
          <LockField
            link={settings.lock}
            hasInvitation={settings.token !== undefined}
            isOn={isLocked}
            setOn={setLocked}
            passphrase={passphrase}
            setPassphrase={setPassphrase}
          />
          <button type="submit" className="oc-button oc-button--main page-join">
            {words.lobby.join}
          </button>
          <Doors hasToken={settings.token !== undefined} />
        </section>
      </form>
    </main>
  );
}

/** Who can enter, where that is not as one would expect. */
function Doors({ hasToken }: { hasToken: boolean }) {
  const words = useWords();
  const doors = useDoors();
  if (doors === 'open') {
    return (
      <p className="page-doors" role="note">
        {words.lobby.open} <code>--auth-key</code>
      </p>
    );
  }
  if (doors === 'tokens' && !hasToken) {
    return (
      <p className="page-doors" role="note">
        {words.lobby.invited}
      </p>
    );
  }
  // So that nothing moves when the server answers.
  return null;
}
