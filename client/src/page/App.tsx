import { useCallback, useEffect, useMemo, useState } from 'react';
import { MeetingView } from '../react/index';
import { type EncryptionOptions, Meeting, sameOriginUrl } from '../sdk/index';
import { type Choice, Lobby } from './Lobby';
import {
  addressOf,
  adoptToken,
  inviteLink,
  type Lock,
  readSettings,
  remember,
  type Settings,
  secretOf,
} from './settings';

declare global {
  interface Window {
    /** The running meeting, for the console and for tests. */
    __meeting?: Meeting | undefined;
  }
}

/** The meeting page: a lobby, a meeting, and a farewell. */
export function App() {
  const token = useMemo(() => adoptToken(window), []);
  const read = () => readSettings(location.search, localStorage, token, location.hash);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the address is read once
  const settings = useMemo(read, []);
  const [meeting, setMeeting] = useState<{ meeting: Meeting; room: string; lock: Lock } | null>(
    null,
  );
  const [hasLeft, setHasLeft] = useState(false);
  // Someone has to type a passphrase.
  const [isEntering, setEntering] = useState(
    settings.autojoin && settings.lock !== 'passphrase' && Boolean(settings.room && settings.name),
  );

  const join = useCallback(
    (choice: Choice) => {
      remember(choice, localStorage);
      history.replaceState(null, '', addressOf(location, choice.room, choice.lock));
      document.title = `${choice.room} · OpenCall`;
      setHasLeft(false);
      const { room, lock } = choice;
      setMeeting({ meeting: start(choice, settings), room, lock });
    },
    [settings],
  );

  const leave = useCallback(() => {
    meeting?.meeting.leave();
    window.__meeting = undefined;
    document.title = 'OpenCall';
    setMeeting(null);
    setHasLeft(true);
  }, [meeting]);

  useEffect(() => {
    if (!isEntering || settings.lock === 'passphrase') return;
    setEntering(false);
    join({ ...settings, lock: settings.lock });
  }, [isEntering, settings, join]);

  useEffect(() => {
    // A link with a key, opened where the lobby already is, changes only the part behind "#".
    const reload = () => location.reload();
    if (meeting) return;
    addEventListener('hashchange', reload);
    return () => removeEventListener('hashchange', reload);
  }, [meeting]);

  useEffect(() => {
    // Says goodbye at once when the tab closes, so that the others need not wait for a time-out.
    const bye = () => meeting?.meeting.leave();
    addEventListener('pagehide', bye);
    return () => removeEventListener('pagehide', bye);
  }, [meeting]);

  if (meeting) {
    return (
      <MeetingView
        meeting={meeting.meeting}
        title={meeting.room}
        // Where tokens are asked for, a link without one leads nowhere.
        {...(token ? {} : { inviteLink: inviteLink(location.origin, meeting.room, meeting.lock) })}
        onLeave={leave}
      />
    );
  }
  // The lobby would open the devices that the meeting is about to open.
  if (isEntering) return null;
  if (hasLeft) return <Farewell onBack={() => setHasLeft(false)} />;
  return <Lobby settings={read()} onJoin={join} />;
}

function Farewell({ onBack }: { onBack: () => void }) {
  return (
    <main className="page-lobby">
      <section className="page-card page-card--centred">
        <h1>You left the meeting</h1>
        <p>Your camera and microphone are off.</p>
        <button type="button" className="page-join" onClick={onBack}>
          Back to the lobby
        </button>
      </section>
    </main>
  );
}

function encryptionOf(lock: NonNullable<Lock>, { rotateEveryMs }: Settings): EncryptionOptions {
  return { secret: secretOf(lock), ...(rotateEveryMs ? { rotateEveryMs } : {}) };
}

function start(choice: Choice, settings: Settings): Meeting {
  const meeting = new Meeting({
    url: sameOriginUrl(location),
    meetingId: choice.room,
    displayName: choice.name,
    camera: settings.video,
    ...(settings.codec ? { videoCodec: settings.codec } : {}),
    ...(settings.token ? { token: settings.token } : {}),
    ...(choice.lock ? { encryption: encryptionOf(choice.lock, settings) } : {}),
  });
  window.__meeting = meeting;
  // Failures are part of what the meeting shows.
  const ignore = () => undefined;
  meeting.join().catch(ignore);
  const { camera, microphone } = choice.preview ?? {};
  if (choice.microphone && choice.camera && !camera && !microphone) {
    meeting.enableBoth().catch(ignore);
    return meeting;
  }
  if (choice.microphone) meeting.enable('microphone', { track: microphone }).catch(ignore);
  if (choice.camera) meeting.enable('camera', { track: camera }).catch(ignore);
  return meeting;
}
