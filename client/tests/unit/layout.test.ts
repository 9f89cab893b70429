import { expect, test } from 'vitest';
import {
  hueOf,
  initialsOf,
  layoutTiles,
  pickVisible,
  rememberSpeakers,
} from '../../src/react/layout';
import { spatialLayerFor } from '../../src/sdk/encodings';

test.each([
  [1, 1600, 900, 1],
  [2, 1600, 900, 2],
  [2, 500, 900, 1],
  [4, 1600, 900, 2],
  [9, 1600, 900, 3],
  [16, 1600, 900, 4],
])('%i tiles in %i×%i stand in %i columns', (count, width, height, columns) => {
  expect(layoutTiles(count, width, height, 12).columns).toBe(columns);
});

test('tiles never need more room than there is', () => {
  for (let count = 1; count <= 50; count += 1) {
    const { columns, rows, tileWidth, tileHeight } = layoutTiles(count, 1280, 720, 12);
    expect(columns * rows).toBeGreaterThanOrEqual(count);
    expect(columns * tileWidth + (columns - 1) * 12).toBeLessThanOrEqual(1280.01);
    expect(rows * tileHeight + (rows - 1) * 12).toBeLessThanOrEqual(720.01);
  }
});

test('nothing to lay out, or nowhere to put it, is no error', () => {
  expect(layoutTiles(0, 100, 100, 12).tileWidth).toBe(0);
  expect(layoutTiles(3, 0, 0, 12).tileWidth).toBe(0);
});

test.each([
  ['Ann', 'A'],
  ['ann maria berg', 'AB'],
  ['  ', '?'],
  ['😀 Smith', '😀S'],
])('the initials of "%s" are "%s"', (name, initials) => {
  expect(initialsOf(name)).toBe(initials);
});

test('a hue is an angle and stays', () => {
  expect(hueOf('a')).toBe(hueOf('a'));
  expect(hueOf('some long id 💡')).toBeLessThan(360);
});

test.each([
  [90, 0],
  [216, 0],
  [217, 1],
  [432, 1],
  [433, 2],
  [2000, 2],
])('a tile %i px high is served by layer %i', (height, layer) => {
  expect(spatialLayerFor(height)).toBe(layer);
});

const people = ['me', 'a', 'b', 'c', 'd'].map((id) => ({ id, isLocal: id === 'me' }));
const idsOf = (list: { id: string }[]) => list.map(({ id }) => id).join('');

test.each([
  [5, [], 'meabcd'],
  [3, [], 'meab'],
  [3, ['d'], 'mead'],
  [3, ['d', 'c'], 'mecd'],
  [2, ['gone', 'c'], 'mec'],
])('with %i places, after %o spoke, those shown are %s', (places, recent, shown) => {
  expect(idsOf(pickVisible(people, recent, places))).toBe(shown);
});

test('who spoke last is remembered first, and each but once', () => {
  expect(rememberSpeakers(['a', 'b'], ['c', 'a'], 3)).toEqual(['c', 'a', 'b']);
  expect(rememberSpeakers(['a', 'b', 'c'], ['d'], 3)).toEqual(['d', 'a', 'b']);
});

test('as long as the same people talk, nobody moves', () => {
  const recent = ['a', 'b'];
  expect(rememberSpeakers(recent, ['b'], 3)).toBe(recent);
  expect(rememberSpeakers(recent, [], 3)).toBe(recent);
});
