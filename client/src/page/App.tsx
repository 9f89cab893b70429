import { useCallback, useEffect, useMemo, useState } from 'react';
import { MeetingView } from '../react/index';
import { PreferencesContext, type Theme, useWords } from '../react/words/index';
import { type EncryptionOptions, Meeting, type MeetingOptions, sameOriginUrl } from '../sdk/index';
import { chosenDevices } from './chosenDevices';
import { type Choice, Lobby } from './Lobby';
import { lasting, ofTab } from './memory';
import { useOwnPreferences } from './preferences';
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

/** The meeting page, in the language and the colours that its reader wants. */
export function App() {
  const preferences = useOwnPreferences();
  return (
    <PreferencesContext.Provider value={preferences}>
      <Page theme={preferences.theme} />
    </PreferencesContext.Provider>
  );
}

/** A lobby, a meeting, and a farewell. */
function Page({ theme }: { theme: Theme }) {
  const token = useMemo(() => adoptToken({ location, history, sessionStorage: ofTab }), []);
  const read = () => readSettings(location.search, lasting, token, location.hash);
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
      remember(choice, lasting);
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
  if (hasLeft) return <Farewell theme={theme} onBack={() => setHasLeft(false)} />;
  return <Lobby settings={read()} onJoin={join} />;
}

function Farewell({ onBack, theme }: { onBack: () => void; theme: Theme }) {
  const words = useWords().lobby;
  return (
    <main className="oc-root page-lobby page-farewell" data-theme={theme}>
      <section className="page-card page-card--centred">
        <h1>{words.farewell}</h1>
        <p>{words.farewellDevices}</p>
        <button type="button" className="oc-button oc-button--main page-join" onClick={onBack}>
          {words.back}
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
    ...wantedDevices(settings),
    ...(settings.codec ? { videoCodec: settings.codec } : {}),
    ...(settings.token ? { token: settings.token } : {}),
    ...(choice.lock ? { encryption: encryptionOf(choice.lock, settings) } : {}),
  });
  window.__meeting = meeting;
  // Failures are part of what the meeting shows.
  const ignore = () => undefined;
  meeting.join().catch(ignore);
  void openDevices(meeting, choice);
  return meeting;
}

/** Those that were chosen the last time, where the lobby does not hand them over. */
function wantedDevices({ video }: Settings): Pick<MeetingOptions, 'camera' | 'microphone'> {
  const { camera, microphone } = chosenDevices(lasting);
  return {
    camera: { ...video, ...(camera ? { deviceId: { ideal: camera } } : {}) },
    ...(microphone ? { microphone: { deviceId: { ideal: microphone } } } : {}),
  };
}

/** What is open already goes on; what could not be opened in the lobby is not asked for again. */
async function openDevices(meeting: Meeting, { camera, microphone, preview }: Choice) {
  const ignore = () => undefined;
  if (preview) {
    const open = await preview;
    if (!microphone) open.microphone?.stop();
    if (!camera) open.camera?.stop();
    if (microphone && open.microphone)
      meeting.enable('microphone', { track: open.microphone }).catch(ignore);
    if (camera && open.camera) meeting.enable('camera', { track: open.camera }).catch(ignore);
  } else if (camera && microphone) meeting.enableBoth().catch(ignore);
  else if (microphone) meeting.enable('microphone').catch(ignore);
  else if (camera) meeting.enable('camera').catch(ignore);
}
