import type { Meeting, MeetingError, MeetingSnapshot } from '../sdk/index';
import { LockIcon, PeopleIcon, WarningIcon } from './icons';
import { explainError, useWords, type Words } from './words/index';

/** Why the server let someone go, as it says it. */
const AWAY = [
  ['replaced', /connected again/],
  ['removed', /^removed/],
  ['taken', /has this peer id/],
  ['locked', /locked/],
  ['denied', /^not let in/],
] as const;

/** Instead of a meeting: it is being entered, or it was left against one's will. */
export function StateCard({
  meeting,
  snapshot,
  onLeave,
}: {
  meeting: Meeting;
  snapshot: MeetingSnapshot;
  onLeave: () => void;
}) {
  const words = useWords();
  const { status, error } = snapshot;
  if (status === 'joining') {
    return (
      <div className="oc-state" data-state="joining">
        <i className="oc-spinner oc-spinner--large" />
        <p role="status">{words.states.joining}</p>
      </div>
    );
  }
  if (status === 'waiting') {
    return (
      <div className="oc-state" data-state="waiting" role="status">
        <div className="oc-state-icon">
          <LockIcon />
        </div>
        <h2>{words.states.waiting}</h2>
        <p>{words.states.waitingHelp}</p>
        <div className="oc-state-buttons">
          <button type="button" className="oc-button" onClick={onLeave}>
            {words.controls.leave}
          </button>
        </div>
      </div>
    );
  }
  // Whoever shows this has mostly gone elsewhere by then.
  if (status === 'left') {
    return (
      <div className="oc-state" data-state="left" role="status">
        <h2>{words.lobby.farewell}</h2>
        <p>{words.lobby.farewellDevices}</p>
        <div className="oc-state-buttons">
          <button
            type="button"
            className="oc-button oc-button--main"
            onClick={() => void meeting.join().catch(() => undefined)}
          >
            {words.lobby.rejoin}
          </button>
        </div>
      </div>
    );
  }
  if (status !== 'failed') return null;
  const { icon, title, text } = describe(words, error);
  return (
    <div className="oc-state" role="alert" data-state="failed" data-error={error?.code}>
      <div className="oc-state-icon">{icon}</div>
      <h2>{title}</h2>
      <p>{text}</p>
      <div className="oc-state-buttons">
        <button
          type="button"
          className="oc-button oc-button--main"
          onClick={() => void meeting.join().catch(() => undefined)}
        >
          {words.states.again}
        </button>
        <button type="button" className="oc-button" onClick={onLeave}>
          {words.controls.leave}
        </button>
      </div>
    </div>
  );
}

function describe({ states, ...words }: Words, error: MeetingError | null) {
  const reason = error?.code === 'sent-away' ? (error.facts.reason ?? '') : '';
  const away = AWAY.find(([, pattern]) => pattern.test(reason))?.[0];
  if (away) {
    const icon = away === 'locked' || away === 'denied' ? <LockIcon /> : <PeopleIcon />;
    return { icon, title: states[away], text: states[`${away}Help`] };
  }
  const isRefused = error?.code === 'token-refused';
  return {
    icon: isRefused ? <LockIcon /> : <WarningIcon />,
    title: isRefused ? states.noEntry : states.failed,
    text: error ? explainError({ states, ...words }, error) : '',
  };
}
