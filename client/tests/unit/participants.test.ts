import { expect, test } from 'vitest';
import { displayNameOf, Roster, sourceOf } from '../../src/sdk/participants';

test.each([
  ['audio', {}, 'microphone'],
  ['audio', { source: 'audio' }, 'microphone'],
  ['audio', { source: 'screen' }, 'screenAudio'],
  ['video', {}, 'camera'],
  ['video', { source: 'webcam' }, 'camera'],
  ['video', { source: 'screen' }, 'screen'],
  ['video', { source: 'screensharing' }, 'screen'],
  ['video', { share: true }, 'screen'],
] as const)('%s with %o is the %s', (kind, appData, source) => {
  expect(sourceOf(kind, appData)).toBe(source);
});

test('a name is taken from appData only if it says something', () => {
  expect(displayNameOf({ displayName: ' Ann ' })).toBe('Ann');
  expect(displayNameOf({ displayName: '  ' })).toBeUndefined();
  expect(displayNameOf({ displayName: 7 })).toBeUndefined();
  expect(displayNameOf({})).toBeUndefined();
});

const media = (producerId: string, paused = false) => ({ producerId, track: null, paused });

test('a person keeps their place and gets a name once it is known', () => {
  const roster = new Roster();
  roster.upsert('a');
  roster.upsert('b', { displayName: 'Ben' });
  roster.upsert('a', { displayName: 'Ann' });
  roster.upsert('a');
  expect(roster.all.map(({ displayName }) => displayName)).toEqual(['Ann', 'Ben']);
});

test('media come, pause and go by producer', () => {
  const roster = new Roster();
  roster.upsert('a');
  roster.setMedia('a', 'camera', media('p1'));
  roster.setMedia('a', 'microphone', media('p2'));
  roster.setPaused('p2', true);
  expect(roster.find('a')?.media.microphone?.paused).toBe(true);
  roster.removeProducer('p1');
  expect(roster.find('a')?.media).toEqual({ microphone: media('p2', true) });
});

test('what is not known changes nothing', () => {
  const roster = new Roster();
  roster.upsert('a');
  const before = roster.all;
  roster.setMedia('z', 'camera', media('p1'));
  roster.removeProducer('p1');
  roster.setPaused('p1', true);
  roster.setSpeaking(['z']);
  roster.upsert('a');
  expect(roster.all).toBe(before);
});

test('speaking changes only those whose state changed', () => {
  const roster = new Roster();
  roster.upsert('a');
  roster.upsert('b');
  const b = roster.find('b');
  roster.setSpeaking(['a']);
  expect(roster.find('a')?.isSpeaking).toBe(true);
  expect(roster.find('b')).toBe(b);
});

test('after a reconnection only oneself is left', () => {
  const roster = new Roster();
  roster.upsert('me', { displayName: 'Me', isLocal: true });
  roster.upsert('a');
  roster.clearRemote();
  expect(roster.all.map(({ id }) => id)).toEqual(['me']);
});
