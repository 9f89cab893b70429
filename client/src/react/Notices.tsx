import { useEffect, useState } from 'react';
import type { Meeting, MeetingSnapshot } from '../sdk/index';
import { explainEncryption } from './encryption';
import { notDone } from './HostPanel';
import {
  CameraIcon,
  CloseIcon,
  LockIcon,
  MicrophoneIcon,
  PeopleIcon,
  ScreenIcon,
  WarningIcon,
} from './icons';
import { explainError, useWords } from './words/index';

/** What is to be known now, over the stage: a lost connection, a key that is missing, what went wrong. */
export function Notices({ meeting, snapshot }: { meeting: Meeting; snapshot: MeetingSnapshot }) {
  const words = useWords();
  const { error, status, devices } = snapshot;
  const encryption = status === 'joined' ? explainEncryption(words, snapshot) : undefined;
  return (
    <div className="oc-notices">
      {status === 'reconnecting' && (
        <div className="oc-notice" role="status">
          <i className="oc-spinner" />
          <p>{words.states.lost}</p>
        </div>
      )}
      {encryption && (
        <div className="oc-notice" role="status">
          <LockIcon open />
          <p>{encryption}</p>
        </div>
      )}
      {error && status !== 'failed' && (
        <div className="oc-notice oc-notice--error" role="alert" data-error={error.code}>
          <WarningIcon />
          <p>{explainError(words, error)}</p>
          <button
            type="button"
            className="oc-button oc-button--bare"
            aria-label={words.states.dismiss}
            onClick={() => meeting.dismissError()}
          >
            <CloseIcon />
          </button>
        </div>
      )}
      <Muted meeting={meeting} />
      <Knocking meeting={meeting} snapshot={snapshot} />
      {devices.screen === 'on' && (
        <div className="oc-notice oc-notice--sharing" role="status">
          <ScreenIcon />
          <p>{words.states.sharing}</p>
          <button
            type="button"
            className="oc-button"
            onClick={() => void meeting.disable('screen').catch(() => undefined)}
          >
            {words.states.stopSharing}
          </button>
        </div>
      )}
    </div>
  );
}

/** How long one is told of what somebody else did. */
const TOLD_MS = 6_000;

/** A host switched something of one's own off, or lets it be switched on again. */
function Muted({ meeting }: { meeting: Meeting }) {
  const words = useWords().hosts;
  const [news, setNews] = useState<{ source: 'microphone' | 'camera'; muted: boolean }>();
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = meeting.on('mutedByHost', ({ source, muted }) => {
      if (source !== 'microphone' && source !== 'camera') return;
      setNews({ source, muted });
      clearTimeout(timer);
      timer = setTimeout(() => setNews(undefined), TOLD_MS);
    });
    return () => {
      clearTimeout(timer);
      stop();
    };
  }, [meeting]);
  if (!news) return null;
  const { source, muted } = news;
  const said = {
    microphone: muted ? words.youMuted : words.youMayUnmute,
    camera: muted ? words.youStopped : words.youMayStart,
  };
  const data = muted ? { 'data-muted-by-host': source } : { 'data-allowed-by-host': source };
  return (
    <div className="oc-notice" role="status" {...data}>
      {source === 'microphone' ? <MicrophoneIcon off={muted} /> : <CameraIcon off={muted} />}
      <p>{said[source]}</p>
    </div>
  );
}

/** To hosts: someone waits in front of the locked room. Of several, the first can be let in from here. */
function Knocking({ meeting, snapshot }: { meeting: Meeting; snapshot: MeetingSnapshot }) {
  const words = useWords().hosts;
  const [first] = snapshot.waiting;
  if (!snapshot.isHost || !first) return null;
  return (
    <div className="oc-notice" role="status">
      <PeopleIcon />
      <p>{words.knock(snapshot.waiting.map(({ name }) => name))}</p>
      <button
        type="button"
        className="oc-button oc-button--main"
        aria-label={words.admitName(first.name)}
        onClick={() => void meeting.admit(first.id).catch(notDone)}
      >
        {words.admit}
      </button>
    </div>
  );
}
