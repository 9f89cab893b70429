import { LockIcon } from '../react/icons';
import { useWords } from '../react/words/index';
import { canEncrypt } from '../sdk/index';
import type { LinkLock } from './settings';

/** Whether the meeting is encrypted end to end, and by what. */
export function LockField({
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
  const words = useWords().lobby;
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
        <span>{words.encrypt}</span>
      </label>
      {!isPossible && <p>{words.cannotEncrypt}</p>}
      {isOn && isInLink && <p>{words.keyInLink}</p>}
      {isOn && link === 'mls' && <p>{words.keysOfGroup}</p>}
      {isOn && !isInLink && link !== 'mls' && (
        <>
          <label className="oc-field">
            <span>{isAgreed ? words.passphraseAgreed : words.passphrase}</span>
            <input
              className="oc-input"
              name="passphrase"
              type="password"
              value={passphrase}
              maxLength={256}
              autoComplete="off"
              required={isAgreed}
              onChange={(event) => setPassphrase(event.target.value)}
            />
          </label>
          <p>{isAgreed ? words.passphraseSame : words.passphraseNew}</p>
        </>
      )}
    </fieldset>
  );
}
