import { expect, test } from 'vitest';
import {
  gridPlaces,
  hueOf,
  initialsOf,
  layoutTiles,
  MAX_TILES,
  placeGrid,
  placeSpeaker,
  type Rect,
  stripPlaces,
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

/** A desktop, a sheet beside it, a phone, a phone that lies, and hardly anything. */
const STAGES = [
  { width: 1264, height: 560 },
  { width: 920, height: 560 },
  { width: 374, height: 690 },
  { width: 760, height: 250 },
  { width: 200, height: 120 },
];

function standsWell(rects: readonly Rect[], { width, height }: { width: number; height: number }) {
  for (const [index, one] of rects.entries()) {
    expect(one.x).toBeGreaterThanOrEqual(0);
    expect(one.y).toBeGreaterThanOrEqual(0);
    expect(one.x + one.width).toBeLessThanOrEqual(width + 1);
    expect(one.y + one.height).toBeLessThanOrEqual(height + 1);
    for (const other of rects.slice(index + 1)) {
      const isApart =
        one.x + one.width < other.x ||
        other.x + other.width < one.x ||
        one.y + one.height < other.y ||
        other.y + other.height < one.y;
      expect(isApart, JSON.stringify([one, other])).toBe(true);
    }
  }
}

test.each(STAGES)('tiles stand inside %o, and over no other', (size) => {
  for (let count = 1; count <= gridPlaces(size); count += 1)
    standsWell(placeGrid(count, size), size);
  for (let others = 0; others <= stripPlaces(size); others += 1) {
    const { main, strip } = placeSpeaker(others, size);
    standsWell([main, ...strip], size);
    expect(strip.every((small) => small.width * small.height < main.width * main.height)).toBe(
      true,
    );
  }
});

test('the last row is in the middle', () => {
  const rects = placeGrid(5, { width: 1264, height: 560 });
  const last = rects.slice(3);
  const left = last[0]?.x ?? 0;
  const right = 1264 - ((last[1]?.x ?? 0) + (last[1]?.width ?? 0));
  expect(Math.abs(left - right)).toBeLessThanOrEqual(1);
});

test('a page holds what can be made out, and no more than can be received', () => {
  expect(gridPlaces({ width: 1904, height: 900 })).toBe(MAX_TILES);
  expect(gridPlaces({ width: 374, height: 690 })).toBe(12);
  expect(gridPlaces({ width: 304, height: 112 })).toBe(2);
  expect(gridPlaces({ width: 0, height: 0 })).toBe(MAX_TILES);
});
