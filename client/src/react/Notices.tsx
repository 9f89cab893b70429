import type { Meeting, MeetingSnapshot } from '../sdk/index';
import { explainEncryption } from './encryption';
import { CloseIcon, LockIcon, ScreenIcon, WarningIcon } from './icons';
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
