import { expect, test } from 'vitest';
import { freshOf, STAY_MS } from '../../src/react/Captions';
import type { Caption } from '../../src/sdk/index';

const said = (utterance: number, at: number): Caption => ({
  utterance,
  participantId: 'ann',
  text: 'so',
  interim: false,
  at,
});

test('captions stay for a while, three at most, the newest', () => {
  const captions = [said(1, 0), said(2, 1_000), said(3, 2_000), said(4, 3_000), said(5, 3_000)];
  const ids = (now: number) => freshOf(captions, now).map(({ utterance }) => utterance);
  expect(ids(3_000)).toEqual([3, 4, 5]);
  expect(ids(2_000 + STAY_MS)).toEqual([4, 5]);
  expect(ids(3_000 + STAY_MS)).toEqual([]);
});
