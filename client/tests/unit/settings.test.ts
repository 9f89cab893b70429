import { expect, test } from 'vitest';
import {
  addressOf,
  chooseLock,
  inviteLink,
  type Lock,
  readLock,
  readSettings,
  remember,
  secretOf,
} from '../../src/page/settings';

function memory() {
  const values = new Map<string, string>();
  return {
    getItem: (key: string) => values.get(key) ?? null,
    setItem: (key: string, value: string) => void values.set(key, value),
  };
}

test('the address bar wins over the last visit', () => {
  const store = memory();
  remember({ room: 'old', name: 'Ann' }, store);
  const settings = readSettings('?room=demo&autojoin=1', store);
  expect(settings).toMatchObject({ room: 'demo', name: 'Ann', autojoin: true, camera: true });
});

test('devices can be left off, and the camera can be made small', () => {
  const settings = readSettings('?camera=0&microphone=0&height=360&fps=15&codec=VP9', memory());
  expect(settings).toMatchObject({ camera: false, microphone: false, codec: 'video/VP9' });
  expect(settings.video).toEqual({
    height: { ideal: 360 },
    width: { ideal: 640 },
    frameRate: { ideal: 15, max: 15 },
  });
});

test('nonsense is left out, and long names are cut', () => {
  const settings = readSettings(`?height=-1&fps=x&name=${'n'.repeat(200)}`, memory());
  expect(settings.video).toEqual({});
  expect(settings.name).toHaveLength(64);
});

test('an invitation survives odd room names', () => {
  const link = new URL(inviteLink('https://meet.example', 'a b&c=d'));
  expect(link.searchParams.get('room')).toBe('a b&c=d');
});

const KEY = 'AbCd-_0123456789abcdef';

test.each([
  ['', undefined],
  ['#', undefined],
  ['#token=a.b.c', undefined],
  [`#k=${KEY}`, { linkKey: KEY }],
  [`#x=1&k=${KEY}`, { linkKey: KEY }],
  ['#e2ee=passphrase', 'passphrase'],
  ['#e2ee=mls', 'mls'],
  [`#k=${KEY}&e2ee=mls`, { linkKey: KEY }],
  // A link that was cut: better to ask than to go on in the clear.
  ['#k=', 'passphrase'],
  ['#k=AbCd', 'passphrase'],
])('behind the address, “%s” says how the meeting is encrypted', (fragment, lock) => {
  expect(readSettings('?room=demo', memory(), undefined, fragment).lock).toEqual(lock);
});

test('the key of a link goes on with invitations; a passphrase does not', () => {
  const link = (lock: Lock) => inviteLink('https://meet.example', 'demo', lock);
  expect(link({ linkKey: KEY })).toBe(`https://meet.example/?room=demo#k=${KEY}`);
  expect(readLock(new URL(link({ linkKey: KEY })).hash)).toEqual({ linkKey: KEY });
  expect(link({ passphrase: 'green light' })).toBe(
    'https://meet.example/?room=demo#e2ee=passphrase',
  );
  expect(link('mls')).toBe('https://meet.example/?room=demo#e2ee=mls');
  expect(link(undefined)).toBe('https://meet.example/?room=demo');
});

test('the lobby locks by a passphrase, by the link’s key, or by a new key', () => {
  expect(chooseLock(false, 'green light', { linkKey: KEY })).toBeUndefined();
  expect(chooseLock(true, 'green light', 'passphrase')).toEqual({ passphrase: 'green light' });
  expect(chooseLock(true, '', { linkKey: KEY })).toEqual({ linkKey: KEY });
  expect([chooseLock(true, '', 'mls'), chooseLock(false, '', 'mls')]).toEqual(['mls', undefined]);
  const [one, other] = [chooseLock(true, ' ', undefined), chooseLock(true, '', undefined)];
  expect(one).toEqual({ linkKey: expect.stringMatching(/^.{22}$/) });
  expect(other).not.toEqual(one);
  expect(secretOf({ linkKey: KEY })?.kind).toBe('key');
  expect(secretOf({ passphrase: 'green light' })?.kind).toBe('passphrase');
});

test('in a meeting the address is the invitation, with what else was behind “#”', () => {
  const origin = 'http://x';
  expect(addressOf({ origin, hash: '#x=1' }, 'b c')).toBe('http://x/?room=b+c#x=1');
  expect(addressOf({ origin, hash: '#x=1&k=old&token=t' }, 'a', { linkKey: 'new' })).toBe(
    'http://x/?room=a#k=new&x=1',
  );
  expect(addressOf({ origin, hash: '' }, 'a', { passphrase: 'secret' })).toBe(
    'http://x/?room=a#e2ee=passphrase',
  );
  expect(addressOf({ origin, hash: '#k=old' }, 'a')).toBe('http://x/?room=a');
});
