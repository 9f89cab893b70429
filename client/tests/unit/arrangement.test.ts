import { expect, test } from 'vitest';
import {
  arrange,
  arrangeStage,
  chooseMain,
  keyOf,
  mainSpeaker,
  paged,
  rememberSpeakers,
  screensOf,
} from '../../src/react/arrangement';
import type { Participant } from '../../src/sdk/index';

const person = (id: string, sources: string[] = []): Participant => ({
  id,
  displayName: id.toUpperCase(),
  isLocal: id === 'me',
  isSpeaking: false,
  media: Object.fromEntries(
    sources.map((source) => [source, { producerId: source + id, track: null, paused: false }]),
  ),
});

const people = ['me', 'a', 'b', 'c', 'd'].map((id) => person(id));
const order = people.map(({ id }) => id);

test('while everyone fits nobody moves, whoever speaks', () => {
  expect(arrange([], people, ['d'], 5)).toEqual(order);
  expect(arrange(order, people, ['d', 'c'], 5)).toBe(order);
});

test.each([
  [[], 'me a b c d'],
  [['d'], 'me a d c b'],
  [['c', 'd'], 'me d c b a'],
  [['gone', 'c'], 'me a c b d'],
  [['a'], 'me a b c d'],
])('with three places, after %o spoke, the order is %s', (recent, expected) => {
  expect(arrange(order, people, recent, 3).join(' ')).toBe(expected);
});

test('a change of speaker changes one tile of the first page, the place of who was silent longest', () => {
  const many = Array.from({ length: 100 }, (_, index) => person(index === 0 ? 'me' : `p${index}`));
  let recent: readonly string[] = [];
  let before = arrange([], many, recent, 25);
  for (const id of ['p60', 'p3', 'p70', 'p60', 'p99', 'p1', 'p50']) {
    recent = rememberSpeakers(recent, [id], 24);
    const now = arrange(before, many, recent, 25);
    const changed = now.slice(0, 25).filter((one, index) => one !== before[index]);
    expect(changed.length).toBeLessThanOrEqual(1);
    expect(now.slice(0, 25)).toContain(id);
    expect(new Set(now).size).toBe(100);
    expect(now[0]).toBe('me');
    before = now;
  }
});

test('who comes is last, and who goes leaves the others in their order', () => {
  expect(arrange(['me', 'c', 'a'], people, [], 9)).toEqual(['me', 'c', 'a', 'b', 'd']);
  expect(arrange(order, people.slice(0, 2), [], 9)).toEqual(['me', 'a']);
});

test('who spoke last is remembered first, and each but once', () => {
  expect(rememberSpeakers(['a', 'b'], ['c', 'a'], 3)).toEqual(['c', 'a', 'b']);
  expect(rememberSpeakers(['a', 'b', 'c'], ['d'], 3)).toEqual(['d', 'a', 'b']);
  const recent = ['a', 'b'];
  expect(rememberSpeakers(recent, ['b'], 3)).toBe(recent);
  expect(rememberSpeakers(recent, [], 3)).toBe(recent);
});

test('two who talk at once do not take turns on the stage', () => {
  const snapshot = (speakers: string[]) => ({ speakers, participants: people });
  expect(mainSpeaker(undefined, snapshot([]))).toBe('a');
  expect(mainSpeaker('a', snapshot(['c']))).toBe('c');
  expect(mainSpeaker('c', snapshot(['a', 'c']))).toBe('c');
  expect(mainSpeaker('c', snapshot([]))).toBe('c');
  expect(mainSpeaker('gone', snapshot(['me']))).toBe('a');
});

test('large is what is pinned, before a screen, before who speaks, before oneself', () => {
  const sharing = person('b', ['screen']);
  const all = [person('me', ['screen']), person('a'), sharing];
  const pin = { participantId: 'a', source: 'camera' } as const;
  expect(chooseMain(all, pin, 'a')).toEqual(pin);
  expect(chooseMain(all, undefined, 'a')).toEqual({ participantId: 'b', source: 'screen' });
  const gone = { participantId: 'gone', source: 'camera' } as const;
  expect(chooseMain(all.slice(0, 2), gone, 'a')).toEqual(pin);
  expect(chooseMain(all.slice(0, 1), undefined, undefined)?.participantId).toBe('me');
  // One's own screen would be a picture of itself.
  expect(screensOf(all).map(keyOf)).toEqual(['screen:b']);
});

test('in a large room who is on stage comes first, in the places of its slots', () => {
  const on = (participantId: string, source: 'camera' | 'microphone' | 'screen' = 'camera') => ({
    participantId,
    source,
  });
  const withCamera = [...people, person('e', ['camera'])];
  const arranged = arrangeStage(withCamera, [on('c'), on('a'), on('b', 'screen'), on('gone')]);
  expect(arranged).toEqual({ first: ['me', 'c', 'a'], others: ['b', 'd', 'e'] });
  // One who comes takes the place of who goes, and oneself is there once.
  expect(arrangeStage(withCamera, [on('d'), on('a'), on('me')]).first).toEqual(['me', 'd', 'a']);
  // A voice without a camera is shown; with one it has a slot for it soon.
  const voices = [on('c'), on('b', 'microphone'), on('e', 'microphone'), on('c', 'microphone')];
  expect(arrangeStage(withCamera, voices).first).toEqual(['me', 'c', 'b']);
});

test('lists begin on pages of their own', () => {
  expect(
    paged(
      [
        [1, 2, 3],
        [4, 5, 6],
      ],
      2,
    ),
  ).toEqual([[1, 2], [3], [4, 5], [6]]);
  expect(paged<number>([[], []], 2)).toEqual([]);
});
