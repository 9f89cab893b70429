import { expect, test } from 'vitest';
import { encodeMessage, isEmoji, parseMessage, type RoomMessage } from '../../../src/data/wire';

const STREAM = 'a'.repeat(22);
const utf8 = (text: string) => new TextEncoder().encode(text);
const parse = (value: unknown) => parseMessage(utf8(JSON.stringify(value)));

const good: RoomMessage[] = [
  { kind: 'state', stream: STREAM, first: 0, next: 0 },
  { kind: 'state', stream: STREAM, first: 3, next: 9, handAgeMs: 0 },
  { kind: 'entry', stream: STREAM, seq: 0, sentAt: 1, content: { chat: 'hello' } },
  { kind: 'entry', stream: STREAM, seq: 7, sentAt: 1, content: { app: null } },
  { kind: 'entry', stream: STREAM, seq: 7, sentAt: 1, content: { app: { x: [1, 'a'] } } },
  { kind: 'react', emoji: '👍' },
  { kind: 'ask', to: 'ben', stream: STREAM, from: 4 },
];

test.each(good)('$kind is read as it was written', (message) => {
  expect(parseMessage(encodeMessage(message))).toEqual(message);
});

test.each([
  ['another kind', { kind: 'x' }],
  ['a list', []],
  ['a number', 7],
  ['a null', null],
  ['no stream', { kind: 'state', first: 0, next: 0 }],
  ['a short stream', { kind: 'state', stream: 'a', first: 0, next: 0 }],
  ['a stream with other letters', { kind: 'state', stream: '/'.repeat(22), first: 0, next: 0 }],
  ['more kept than sent', { kind: 'state', stream: STREAM, first: 2, next: 1 }],
  ['half an entry', { kind: 'state', stream: STREAM, first: 0, next: 0.5 }],
  ['less than none', { kind: 'state', stream: STREAM, first: -1, next: 0 }],
  ['too many', { kind: 'state', stream: STREAM, first: 0, next: 2 ** 60 }],
  ['a hand of yesterday', { kind: 'state', stream: STREAM, first: 0, next: 0, handAgeMs: 9e7 }],
  ['an entry of nothing', { kind: 'entry', stream: STREAM, seq: 0, sentAt: 1, content: {} }],
  ['no content', { kind: 'entry', stream: STREAM, seq: 0, sentAt: 1 }],
  ['empty words', { kind: 'entry', stream: STREAM, seq: 0, sentAt: 1, content: { chat: '' } }],
  [
    'too many words',
    { kind: 'entry', stream: STREAM, seq: 0, sentAt: 1, content: { chat: 'x'.repeat(4001) } },
  ],
  [
    'words that are none',
    { kind: 'entry', stream: STREAM, seq: 0, sentAt: 1, content: { chat: 1 } },
  ],
  ['words as a reaction', { kind: 'react', emoji: 'hello' }],
  ['who asks nobody', { kind: 'ask', to: '', stream: STREAM, from: 0 }],
])('%s is dropped', (_, value) => {
  expect(parse(value)).toBeUndefined();
});

test('what is no JSON, no UTF-8, or too long is dropped', () => {
  expect(parseMessage(utf8('{'))).toBeUndefined();
  expect(parseMessage(Uint8Array.of(0x22, 0xff, 0x22))).toBeUndefined();
  const app = { app: 'x'.repeat(20_000) };
  expect(parse({ kind: 'entry', stream: STREAM, seq: 0, sentAt: 1, content: app })).toBeUndefined();
});

test('what is not asked for is not passed on', () => {
  const more = { kind: 'state', stream: STREAM, first: 0, next: 0, __proto__: { a: 1 }, evil: 1 };
  expect(parse(more)).toEqual({ kind: 'state', stream: STREAM, first: 0, next: 0 });
});

test.each(['👍', '❤️', '👩🏽‍🚀', '🇩🇪', '1️⃣', '🏴󠁧󠁢󠁥󠁮󠁧󠁿', '👨‍👩‍👧‍👦'])('%s is an emoji', (emoji) => {
  expect(isEmoji(emoji)).toBe(true);
});

test.each(['', 'a', '1', '👍 a', 'a👍', '<b>', '👍'.repeat(17)])('"%s" is none', (text) => {
  expect(isEmoji(text)).toBe(false);
});
