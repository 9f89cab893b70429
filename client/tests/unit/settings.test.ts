import { expect, test } from 'vitest';
import { inviteLink, readSettings, remember } from '../../src/page/settings';

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
