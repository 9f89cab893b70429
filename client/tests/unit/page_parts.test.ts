import { expect, test } from 'vitest';
import { linkify, sizeText } from '../../src/react/chatText';
import { loudness } from '../../src/react/level';
import { barsOf } from '../../src/react/network';
import { moveBy, WHOLE, zoomAt } from '../../src/react/zoom';

const frame = { width: 800, height: 400 };

test('what is under the pointer stays there while it grows', () => {
  const point = { x: 100, y: -50 };
  const zoom = zoomAt(WHOLE, 2, point, frame);
  expect(zoom).toEqual({ scale: 2, x: -100, y: 50 });
  expect(zoomAt(zoom, 0.5, point, frame)).toEqual(WHOLE);
});

test('a picture is never smaller than its frame, nor moved out of it', () => {
  expect(zoomAt(WHOLE, 0.1, { x: 0, y: 0 }, frame).scale).toBe(1);
  expect(zoomAt(WHOLE, 1000, { x: 0, y: 0 }, frame).scale).toBe(6);
  const zoom = zoomAt(WHOLE, 2, { x: 0, y: 0 }, frame);
  expect(moveBy(zoom, 10_000, -10_000, frame)).toEqual({ scale: 2, x: 400, y: -200 });
  expect(moveBy(WHOLE, 50, 50, frame)).toEqual(WHOLE);
});

test('bars tell lost packets and frozen pictures from silence', () => {
  const counts = (packetsReceived: number, packetsLost = 0, freezeMs = 0) => ({
    packetsReceived,
    packetsLost,
    freezeMs,
  });
  const start = counts(1000, 10);
  expect(barsOf(undefined, start)).toBeUndefined();
  expect(barsOf(start, start)).toBeUndefined();
  expect(barsOf(start, counts(1100, 11))).toBe(3);
  expect(barsOf(start, counts(1100, 15))).toBe(2);
  expect(barsOf(start, counts(1100, 40))).toBe(1);
  expect(barsOf(start, counts(1100, 10, 900))).toBe(1);
  expect(barsOf(start, counts(1000, 50))).toBe(0);
});

test('a level is nothing in silence and full where a voice is loud', () => {
  const tone = (amplitude: number) =>
    Float32Array.from({ length: 1024 }, (_, index) => amplitude * Math.sin(index / 5));
  expect(loudness(tone(0))).toBe(0);
  expect(loudness(tone(1))).toBe(1);
  expect(loudness(tone(0.05))).toBeGreaterThan(0.4);
  expect(loudness(tone(0.05))).toBeLessThan(0.9);
});

test('addresses of the web become links, and nothing else', () => {
  const hrefs = (text: string) => linkify(text).flatMap(({ href }) => href ?? []);
  expect(hrefs('see https://a.example/b?c=d, and (http://e.example).')).toEqual([
    'https://a.example/b?c=d',
    'http://e.example',
  ]);
  expect(hrefs('javascript:alert(1) file:///etc https:// data:text/html,x')).toEqual([]);
  const text = 'a https://b.example c';
  expect(
    linkify(text)
      .map((part) => part.text)
      .join(''),
  ).toBe(text);
});

test('sizes are said as people say them', () => {
  // Between number and unit there is a space that does not break.
  const said = (bytes: number, language: string) => sizeText(bytes, language).replace(/\s/g, ' ');
  expect(said(1_500, 'en')).toBe('1.5 kB');
  expect(said(52_000_000, 'de')).toBe('52 MB');
  expect(said(3_200_000_000, 'de')).toBe('3,2 GB');
});
