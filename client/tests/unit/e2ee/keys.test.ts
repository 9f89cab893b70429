import { expect, test } from 'vitest';
import { toBase64Url } from '../../../src/e2ee/bytes';
import {
  baseKey,
  importSecret,
  newLinkKey,
  safetyCode,
  secretOfLinkKey,
  secretOfPassphrase,
} from '../../../src/e2ee/keys';
import { FAILURES_UNTIL_WRONG, TrackWatch } from '../../../src/e2ee/trackState';
import { secretOf } from './frames';
import { toHex } from './hex';

const salt = (byte: number) => new Uint8Array(16).fill(byte);

async function baseKeyOf(secret: CryptoKey, participantId = 'ann', source = 'camera', epoch = 1n) {
  return toHex(await baseKey(secret, { participantId, salt: salt(1), source }, epoch));
}

test('a link key has 128 bits, is new each time, and comes back', () => {
  const key = newLinkKey();
  expect(key).toMatch(/^[A-Za-z0-9_-]{22}$/);
  expect(newLinkKey()).not.toBe(key);
  const secret = secretOfLinkKey(key);
  expect(secret?.kind === 'key' && toBase64Url(secret.bytes)).toBe(key);
});

test.each(['', 'short', `${'a'.repeat(21)}!`, 'a'.repeat(200)])('“%s” is no link key', (text) => {
  expect(secretOfLinkKey(text)).toBeUndefined();
});

test('a passphrase is the same however it is typed, and another in another meeting', async () => {
  const keyOf = async (text: string, meeting: string) => {
    const secret = secretOfPassphrase(text);
    if (!secret) throw new Error('empty');
    return baseKeyOf(await importSecret(secret, meeting));
  };
  const key = await keyOf('Grüne Ampel', 'stand-up');
  expect(await keyOf(' Gru\u0308ne Ampel ', 'stand-up')).toBe(key);
  expect(await keyOf('grüne Ampel', 'stand-up')).not.toBe(key);
  expect(await keyOf('Grüne Ampel', 'board')).not.toBe(key);
  expect(secretOfPassphrase('  ')).toBeUndefined();
});

test('the base key is another for each secret, person, source, epoch and salt', async () => {
  const secret = await secretOf('a');
  const keys = [
    await baseKeyOf(secret),
    await baseKeyOf(await secretOf('b')),
    await baseKeyOf(secret, 'ben'),
    await baseKeyOf(secret, 'ann', 'screen'),
    await baseKeyOf(secret, 'ann', 'camera', 2n),
    // The border between two texts is part of it.
    await baseKeyOf(secret, 'annc', 'amera'),
    toHex(await baseKey(secret, { participantId: 'ann', salt: salt(2), source: 'camera' }, 1n)),
  ];
  expect(new Set(keys).size).toBe(keys.length);
  expect(await baseKeyOf(secret)).toBe(keys[0]);
});

test('the code is the same in any order, and another for other people, sessions or secrets', async () => {
  const secret = await secretOf('a');
  const [ann, ben] = [
    { participantId: 'ann', salt: salt(1) },
    { participantId: 'ben', salt: salt(2) },
  ];
  const code = await safetyCode(secret, [ann, ben]);
  expect(code).toMatch(/^\d{5}( \d{5}){5}$/);
  expect(await safetyCode(secret, [ben, ann])).toBe(code);
  const others = [
    await safetyCode(secret, [ann]),
    await safetyCode(secret, [ann, { ...ben, salt: salt(3) }]),
    await safetyCode(secret, [ann, { ...ben, participantId: 'bob' }]),
    await safetyCode(await secretOf('b'), [ann, ben]),
  ];
  expect(new Set([code, ...others]).size).toBe(5);
});

test('one bad frame is no wrong key; five in a row are, until one can be opened', () => {
  const watch = new TrackWatch();
  const bad = { drop: 'not-authentic' } as const;
  const good = { frame: new Uint8Array() };
  expect(watch.note({ drop: 'no-key' })).toBe('waiting-for-key');
  expect(watch.note({ drop: 'no-key' })).toBeUndefined();
  expect(watch.note(good)).toBe('encrypted');
  for (let round = 0; round < 3; round += 1) {
    expect(watch.note(bad)).toBeUndefined();
    expect(watch.note(good)).toBeUndefined();
  }
  for (let failed = 1; failed < FAILURES_UNTIL_WRONG; failed += 1) {
    expect(watch.note(bad)).toBeUndefined();
  }
  expect(watch.note({ drop: 'replayed' })).toBeUndefined();
  expect(watch.note({ drop: 'malformed' })).toBe('wrong-key');
  expect(watch.note(good)).toBe('encrypted');
});
