import type { Meeting, MeetingSnapshot } from '../sdk/index';
import { LockIcon } from './icons';
import { useWords } from './words/index';

/** What a host did that failed is seen by its not being so. */
export const notDone = (error: unknown) => console.info('opencall: not done', error);

/** For hosts, above the list of people: the lock of the room, and who waits in front of it. */
export function HostPanel({ meeting, snapshot }: { meeting: Meeting; snapshot: MeetingSnapshot }) {
  const words = useWords().hosts;
  const { isHost, locked, waiting } = snapshot;
  if (!isHost) return null;
  return (
    <div className="oc-hosting">
      <button
        type="button"
        className="oc-button"
        aria-pressed={locked}
        onClick={() => void meeting.lock(!locked).catch(notDone)}
      >
        <LockIcon open={locked} />
        {locked ? words.unlock : words.lock}
      </button>
      {waiting.length > 0 && (
        <section aria-label={words.waiting}>
          <h3>{words.waiting}</h3>
          <ul>
            {waiting.map(({ id, name }) => (
              <li key={id}>
                <span>{name}</span>
                <button
                  type="button"
                  className="oc-button oc-button--main"
                  aria-label={words.admitName(name)}
                  onClick={() => void meeting.admit(id).catch(notDone)}
                >
                  {words.admit}
                </button>
                <button
                  type="button"
                  className="oc-button"
                  aria-label={words.denyName(name)}
                  onClick={() => void meeting.deny(id).catch(notDone)}
                >
                  {words.deny}
                </button>
              </li>
            ))}
          </ul>
        </section>
      )}
    </div>
  );
}
