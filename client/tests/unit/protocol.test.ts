import { expect, test } from 'vitest';
import { decodeFrame, encodeRequest } from '../../src/sdk/protocol';

test('a request carries its name, its id and its data', () => {
  const text = encodeRequest('consume', '7', {
    meetingId: 'm',
    participantId: 'p',
    producerId: 'x',
  });
  expect(JSON.parse(text)).toEqual({
    type: 'mediasoup:consume',
    id: '7',
    data: { meetingId: 'm', participantId: 'p', producerId: 'x' },
  });
});

test.each([
  [
    'an answer',
    { type: 'response', id: '1', data: { a: 1 } },
    { type: 'response', id: '1', data: { a: 1 } },
  ],
  ['a refusal', { type: 'error', id: '1', error: 'no' }, { type: 'error', id: '1', error: 'no' }],
  [
    'an error outside a request',
    { type: 'error', error: 'no' },
    { type: 'error', id: undefined, error: 'no' },
  ],
  [
    'an event',
    { type: 'mediasoup:activeSpeakers', data: ['a'] },
    { type: 'event', name: 'activeSpeakers', data: ['a'] },
  ],
])('understands %s', (_name, frame, understood) => {
  expect(decodeFrame(JSON.stringify(frame))).toEqual(understood);
});

test.each(['', '{', '[]', 'null', '7', '{}', '{"type":"chat:hello"}', '{"type":"response"}'])(
  'leaves alone what is not of this protocol: %s',
  (text) => {
    expect(decodeFrame(text)).toBeUndefined();
  },
);
