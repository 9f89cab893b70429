import { type FormEvent, useEffect, useRef, useState } from 'react';
import { CameraIcon, LockIcon, MicrophoneIcon } from '../react/icons';
import { initialsOf } from '../react/layout';
import { canEncrypt } from '../sdk/index';
import { type Preview, usePreview } from './preview';
import { useDoors } from './server';
import { chooseLock, type LinkLock, type Lock, type Settings } from './settings';

/** What the visitor chose. */
export interface Choice {
  room: string;
  name: string;
  camera: boolean;
  microphone: boolean;
  lock: Lock;
  /** What was open in the lobby, and goes on in the meeting. */
  preview?: Preview;
}

/** Before the meeting: who, where, and a look in the mirror. */
export function Lobby({
  settings,
  onJoin,
}: {
  settings: Settings;
  onJoin: (choice: Choice) => void;
}) {
  const [room, setRoom] = useState(settings.room);
  const [name, setName] = useState(settings.name);
  const [camera, setCamera] = useState(settings.camera);
  const [microphone, setMicrophone] = useState(settings.microphone);
  const [isLocked, setLocked] = useState(settings.lock !== undefined);
  const [passphrase, setPassphrase] = useState('');
  const preview = usePreview(camera, microphone, settings.video);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const lock = chooseLock(isLocked, passphrase, settings.lock);
    const choice = { room: room.trim(), name: name.trim(), camera, microphone, lock };
    onJoin({ ...choice, preview: preview.take() });
  };
  return (
    <main className="page-lobby">
      <form className="page-card" onSubmit={submit}>
        <header className="page-brand">
          <img src="/icon.svg" alt="" width="36" height="36" />
          <div>
            <h1>OpenCall</h1>
            <p>Video meetings, served by your own machine.</p>
          </div>
        </header>
        <Mirror track={preview.camera} problem={camera ? preview.problem : ''} name={name}>
          <button
            type="button"
            className="page-toggle"
            aria-pressed={microphone}
            aria-label="Microphone"
            onClick={() => setMicrophone(!microphone)}
          >
            <MicrophoneIcon off={!microphone} />
          </button>
          <button
            type="button"
            className="page-toggle"
            aria-pressed={camera}
            aria-label="Camera"
            onClick={() => setCamera(!camera)}
          >
            <CameraIcon off={!camera} />
          </button>
        </Mirror>
        <div className="page-row">
          <label className="page-field">
            <span>Your name</span>
            <input
              name="name"
              value={name}
              maxLength={64}
              autoComplete="name"
              placeholder="Ann"
              required
              onChange={(event) => setName(event.target.value)}
            />
          </label>
          <label className="page-field">
            <span>Room</span>
            <input
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
        </div>
        <LockField
          link={settings.lock}
          hasInvitation={settings.token !== undefined}
          isOn={isLocked}
          setOn={setLocked}
          passphrase={passphrase}
          setPassphrase={setPassphrase}
        />
        <button type="submit" className="page-join">
          Join meeting
        </button>
        <Doors hasToken={settings.token !== undefined} />
      </form>
    </main>
  );
}

/** Whether the meeting is encrypted end to end, and by what. */
function LockField({
  link,
  hasInvitation,
  isOn,
  setOn,
  passphrase,
  setPassphrase,
}: {
  link: LinkLock;
  /** Everyone has a link of their own: a new key could go into none of the others. */
  hasInvitation: boolean;
  isOn: boolean;
  setOn: (isOn: boolean) => void;
  passphrase: string;
  setPassphrase: (passphrase: string) => void;
}) {
  const isPossible = canEncrypt();
  const isInLink = typeof link === 'object';
  const isAgreed = link !== undefined || hasInvitation;
  return (
    <fieldset className="page-lock">
      <label className="page-check">
        <input
          type="checkbox"
          name="encrypt"
          checked={isOn}
          disabled={!isPossible}
          onChange={(event) => setOn(event.target.checked)}
        />
        <LockIcon />
        <span>Encrypt end to end</span>
      </label>
      {!isPossible && (
        <p>This browser cannot, or the page was opened without https. Others may not be seen.</p>
      )}
      {isOn && isInLink && <p>The key is in the link that you opened. The server never gets it.</p>}
      {isOn && !isInLink && (
        <>
          <label className="page-field">
            <span>{isAgreed ? 'Passphrase of this meeting' : 'Passphrase (optional)'}</span>
            <input
              name="passphrase"
              type="password"
              value={passphrase}
              maxLength={256}
              autoComplete="off"
              required={isAgreed}
              onChange={(event) => setPassphrase(event.target.value)}
            />
          </label>
          <p>
            {isAgreed
              ? 'All who meet type the same. The server does not know it.'
              : 'Left empty, a new key goes into the link that you share. The server gets neither.'}
          </p>
        </>
      )}
    </fieldset>
  );
}

/** Who can enter, where that is not as one would expect. */
function Doors({ hasToken }: { hasToken: boolean }) {
  const doors = useDoors();
  if (doors === 'open') {
    return (
      <p className="page-doors" role="note">
        This server is open: anyone who reaches it can join any meeting under any name. Whoever runs
        it can require invitations: <code>--auth-key</code>.
      </p>
    );
  }
  if (doors === 'tokens' && !hasToken) {
    return (
      <p className="page-doors" role="note">
        This server lets in who has an invitation. Open the link that you were given.
      </p>
    );
  }
  return null;
}

function Mirror({
  track,
  problem,
  name,
  children,
}: {
  track: MediaStreamTrack | undefined;
  problem: string;
  name: string;
  children: React.ReactNode;
}) {
  const video = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    if (video.current) video.current.srcObject = track ? new MediaStream([track]) : null;
  }, [track]);
  return (
    <div className="page-mirror">
      <video ref={video} autoPlay muted playsInline hidden={!track} />
      {!track && <div className="page-mirror-off">{problem || initialsOf(name || '·')}</div>}
      <div className="page-toggles">{children}</div>
    </div>
  );
}
