import type { EncryptionState, MeetingSnapshot, Participant } from '../sdk/index';

/** The words on a tile for its participant's encryption. */
export const ENCRYPTION_TEXT: Record<EncryptionState, string> = {
  pending: 'Nothing received yet',
  encrypted: 'Encrypted end to end',
  'waiting-for-key': 'Waiting for key',
  'wrong-key': 'Wrong key',
  'not-encrypted': 'Not encrypted',
};

/** Whether there is something to see. */
export function isPlayable(state: EncryptionState | undefined): boolean {
  return state === undefined || state === 'pending' || state === 'encrypted';
}

/** The problem with the meeting's encryption and its remedy, in words; `undefined` if there is none. */
export function explainEncryption({
  encryption,
  participants,
}: Pick<MeetingSnapshot, 'encryption' | 'participants'>): string | undefined {
  if (encryption.state === 'waiting-for-key') {
    return 'Waiting for the key: until it is here you send nothing, and see and hear nobody.';
  }
  const others = participants.filter(({ isLocal }) => !isLocal);
  const inState = (state: EncryptionState) => others.filter((other) => other.encryption === state);
  const waiting = inState('waiting-for-key');
  if (waiting.length > 0) {
    return `${namesOf(waiting)} encrypted end to end, and you have no key. Leave, and join again by the invitation with the key, or with the passphrase.`;
  }
  const wrong = inState('wrong-key');
  if (wrong.length > 0) {
    return `${namesOf(wrong)} encrypted with another key than yours. Whoever has the wrong one has to leave and join again, by the invitation of the others or with their passphrase.`;
  }
  const clear = inState('not-encrypted');
  if (clear.length > 0) {
    return `${namesOf(clear)} not encrypted, and therefore not played. They have to join by the invitation with the key, or with the passphrase.`;
  }
  return undefined;
}

/** Names with their verb; of many, the first two and a number. */
function namesOf(people: readonly Participant[]): string {
  const names = people.slice(0, 2).map(({ displayName }) => displayName);
  const more = people.length - names.length;
  if (more > 0) return `${names.join(', ')} and ${more} more are`;
  return `${names.join(' and ')} ${names.length > 1 ? 'are' : 'is'}`;
}
