import type { EncryptionState, MeetingSnapshot } from '../sdk/index';
import type { Words } from './words/index';

/** Whether there is something to see. */
export function isPlayable(state: EncryptionState | undefined): boolean {
  return state === undefined || state === 'pending' || state === 'encrypted';
}

/** The problem with the meeting's encryption and its remedy, in words; `undefined` if there is none. */
export function explainEncryption(
  { encryption: words }: Words,
  { encryption, participants }: Pick<MeetingSnapshot, 'encryption' | 'participants'>,
): string | undefined {
  if (encryption.state === 'waiting-for-key') return words.waiting;
  const inState = (state: EncryptionState) =>
    participants
      .filter((other) => !other.isLocal && other.encryption === state)
      .map(({ displayName }) => displayName);
  const problems = [
    [inState('waiting-for-key'), words.keyMissing],
    [inState('wrong-key'), words.wrongKey],
    [inState('not-encrypted'), words.inTheClear],
  ] as const;
  const found = problems.find(([names]) => names.length > 0);
  return found?.[1](found[0]);
}
