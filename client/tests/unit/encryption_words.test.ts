import { expect, test } from 'vitest';
import { explainEncryption, isPlayable } from '../../src/react/encryption';
import { en } from '../../src/react/words/en';
import type { EncryptionSnapshot, EncryptionState, Participant } from '../../src/sdk/index';

const person = (
  displayName: string,
  encryption: EncryptionState,
  isLocal = false,
): Participant => ({
  id: displayName,
  displayName,
  isLocal,
  isSpeaking: false,
  media: {},
  encryption,
});

const explain = (state: EncryptionSnapshot['state'], ...participants: Participant[]) =>
  explainEncryption(en, { encryption: { state, code: null }, participants });

test('while all is well nothing is said', () => {
  expect(explain('off')).toBeUndefined();
  expect(
    explain(
      'on',
      person('Me', 'encrypted', true),
      person('Ann', 'encrypted'),
      person('Ben', 'pending'),
    ),
  ).toBeUndefined();
});

test.each([
  ['wrong-key', /^Ann is encrypted with another key than yours/],
  ['waiting-for-key', /^Ann is encrypted end to end, and you have no key/],
  ['not-encrypted', /^Ann is not encrypted, and therefore not played/],
] as const)('%s: whose it is and what helps', (state, words) => {
  expect(explain('on', person('Me', 'encrypted', true), person('Ann', state))).toMatch(words);
});

test('of many people two are named', () => {
  const people = ['Ann', 'Ben', 'Cleo', 'Dan'].map((name) => person(name, 'wrong-key'));
  expect(explain('on', ...people.slice(0, 2))).toMatch(/^Ann and Ben are /);
  expect(explain('on', ...people)).toMatch(/^Ann, Ben and 2 more are /);
});

test('one’s own missing key comes first', () => {
  expect(explain('waiting-for-key', person('Ann', 'waiting-for-key'))).toMatch(
    /^Waiting for the key/,
  );
});

test('only what can be decrypted is shown', () => {
  expect([undefined, 'pending', 'encrypted'].map((state) => isPlayable(state as never))).toEqual([
    true,
    true,
    true,
  ]);
  expect(
    ['waiting-for-key', 'wrong-key', 'not-encrypted'].some((state) => isPlayable(state as never)),
  ).toBe(false);
});
