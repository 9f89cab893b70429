import type { Meeting } from '../sdk/index';
import { SmileIcon } from './icons';
import { Popover } from './Popover';
import { useWords } from './words/index';

const EMOJIS = ['👍', '👏', '❤️', '😂', '😮', '🎉'] as const;

/** Something to show to everyone for a moment. */
export function ReactionButton({ meeting }: { meeting: Meeting }) {
  const words = useWords().controls;
  return (
    <Popover
      label={words.react}
      className="oc-control oc-control--wide"
      place="above"
      icon={<SmileIcon />}
      data-control="react"
    >
      {(close) => <ReactionRow meeting={meeting} onDone={close} />}
    </Popover>
  );
}

export function ReactionRow({ meeting, onDone }: { meeting: Meeting; onDone: () => void }) {
  const words = useWords().controls;
  return (
    <div className="oc-emojis">
      {EMOJIS.map((emoji, index) => (
        <button
          key={emoji}
          type="button"
          aria-label={words.emojis[index]}
          onClick={() => {
            onDone();
            meeting.react(emoji).catch((error) => console.info('opencall: not shown', error));
          }}
        >
          {emoji}
        </button>
      ))}
    </div>
  );
}
