import { Dialog } from './Dialog';
import { KEYS } from './shortcuts';
import { useWords } from './words/index';

/** Every key, and what it does. */
export function ShortcutsDialog({ onClose }: { onClose: () => void }) {
  const words = useWords().shortcuts;
  const rows: [string[], string][] = [
    [[KEYS.microphone], words.microphone],
    [[words.space], words.talk],
    [[KEYS.camera], words.camera],
    [[KEYS.screen], words.screen],
    [[KEYS.hand], words.hand],
    [[KEYS.chat], words.chat],
    [[KEYS.people], words.people],
    [[KEYS.layout], words.layout],
    [[KEYS.captions], words.captions],
    [['←', '→'], words.pages],
    [['Esc'], words.escape],
    [[KEYS.help], words.help],
  ];
  return (
    <Dialog title={words.title} onClose={onClose}>
      <dl className="oc-keys">
        {rows.map(([keys, text]) => (
          <div key={text}>
            <dt>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
