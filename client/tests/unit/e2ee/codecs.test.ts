import { describe, expect, test } from 'vitest';
import {
  codecOf,
  cut,
  escapeNal,
  join,
  leb128,
  SEALABLE_CODECS,
  unescapeNal,
} from '../../../src/e2ee/codecs';
import { fromHex, toHex } from './hex';

/** Numbers that look random and are the same each time. */
function* randoms(seed: number): Generator<number> {
  let state = seed;
  for (;;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}

const bytes = (length: number) => Uint8Array.from({ length }, (_, index) => (index * 7 + 1) & 0xff);

test('only codecs whose clear parts are known are sealed', () => {
  expect(codecOf('video/VP8')).toBe('vp8');
  expect(codecOf('video/H264')).toBe('h264');
  expect(codecOf('audio/opus')).toBe('opus');
  expect(codecOf('video/H265')).toBeUndefined();
  expect(codecOf('audio/red')).toBeUndefined();
  expect(codecOf(undefined)).toBeUndefined();
});

test.each(['opus', 'vp9'] as const)('%s: nothing stays clear', (codec) => {
  const parts = cut(codec, bytes(40), 20);
  expect(parts?.prefix).toHaveLength(0);
  expect(parts?.plain).toEqual(bytes(40));
});

test.each([
  ['a key frame', 0x10, 10],
  ['a delta frame', 0x11, 1],
])('VP8: of %s the tag stays clear', (_, tag, length) => {
  const frame = bytes(40);
  frame[0] = tag;
  expect(cut('vp8', frame, 20)?.prefix).toEqual(frame.subarray(0, length));
  // Never more than there is.
  expect(cut('vp8', frame.subarray(0, 4), 20)?.prefix).toHaveLength(Math.min(length, 4));
});

describe('H264', () => {
  const SPS = '6742c01f8c8d40501e900f08846a';
  const PPS = '68ce3c80';

  test('parameter sets and the slice header up to its parameter set stay clear', () => {
    // first_mb 0 (1), slice_type 7 (0001000), pps_id 0 (1): nine bits.
    const frame = fromHex(`00000001${SPS}00000001${PPS}000000016588804fffab`);
    const parts = cut('h264', frame, 20);
    expect(toHex(parts?.prefix ?? bytes(0))).toBe(`00000001${SPS}00000001${PPS}00000001658880`);
    expect(toHex(parts?.plain ?? bytes(0))).toBe('4fffab');
  });

  test('start codes get four bytes, and what decoders do without is left out', () => {
    const frame = fromHex(`00000109f0000001${SPS}000001${PPS}00000106050101800000016588804fffab`);
    expect(toHex(cut('h264', frame, 20)?.prefix ?? bytes(0))).toBe(
      `00000001${SPS}00000001${PPS}00000001658880`,
    );
  });

  test('of a frame in slices, only the first header stays clear', () => {
    const frame = fromHex('00000001419a2311220000000141e0123456');
    const parts = cut('h264', frame, 20);
    // first_mb 0 (1), slice_type 5 (00110), pps_id 0 (1): seven bits.
    expect(toHex(parts?.prefix ?? bytes(0))).toBe('00000001419a');
    expect(toHex(parts?.plain ?? bytes(0))).toBe('2311220000000141e0123456');
  });

  test('a header with large values, and emulation prevention in it, is read to its end', () => {
    // first_mb 2^22 - 1 in 45 bits, slice_type 0, pps_id 0: 47 bits, of which the first 24 need a 3 among them.
    const frame = fromHex('00000001410000030200000611ee');
    const parts = cut('h264', frame, 20);
    expect(toHex(parts?.prefix ?? bytes(0))).toBe('000000014100000302000006');
    expect(toHex(parts?.plain ?? bytes(0))).toBe('11ee');
  });

  test('without a slice there is no frame', () => {
    expect(cut('h264', fromHex(`00000001${SPS}00000001${PPS}`), 20)).toBeUndefined();
    expect(cut('h264', bytes(30), 20)).toBeUndefined();
    expect(cut('h264', fromHex('0000000165'), 20)).toBeUndefined();
  });
});

describe('AV1', () => {
  const SEQUENCE = '0a0b00000042a7bfe46bf7e82040';

  test('a key frame keeps its sequence header; all of it is sealed in one frame unit with a size', () => {
    const frame = fromHex(`1200${SEQUENCE.slice(0, 26)}3203112233`);
    const parts = cut('av1', frame, 20);
    const size = toHex(leb128(frame.length + 20));
    expect(toHex(parts?.prefix ?? bytes(0))).toBe(`${SEQUENCE.slice(0, 26)}32${size}`);
    expect(parts?.plain).toEqual(frame);
  });

  test('a delta frame has only the frame unit; its layer ids stay', () => {
    const frame = fromHex('12003628051122334455');
    expect(toHex(cut('av1', frame, 20)?.prefix ?? bytes(0))).toBe(
      `3628${toHex(leb128(frame.length + 20))}`,
    );
  });

  test('a frame in a header and tile groups becomes one unit', () => {
    const frame = fromHex('1a02aabb2202ccdd');
    expect(toHex(cut('av1', frame, 150)?.prefix ?? bytes(0))).toBe(`32${toHex(leb128(158))}`);
  });

  test('what is no frame is not sent', () => {
    expect(cut('av1', fromHex('1200'), 20)).toBeUndefined();
    expect(cut('av1', fromHex('0aff0000'), 20)).toBeUndefined();
    expect(cut('av1', fromHex('0a808080808080'), 20)).toBeUndefined();
  });

  test.each([
    [0, '00'],
    [127, '7f'],
    [128, '8001'],
    [300, 'ac02'],
    [70_000, 'f0a204'],
  ])('the size %d is written as %s', (value, encoded) => {
    expect(toHex(leb128(value))).toBe(encoded);
  });
});

test('escaped bytes hold no start code, and come back', () => {
  const random = randoms(1);
  const next = () => random.next().value as number;
  for (let round = 0; round < 2000; round += 1) {
    // Mostly small values, so that nearly all has to be escaped.
    const some = (most: number) =>
      Uint8Array.from({ length: Math.floor(next() * most) }, () => Math.floor(next() * 5));
    const [before, plain] = [some(4), some(60)];
    const escaped = escapeNal(before, plain);
    expect(unescapeNal(before, escaped)).toEqual(plain);
    const around = toHex(Uint8Array.from([...before.slice(-2), ...escaped])).match(/../g) ?? [];
    const codes = around.filter(
      (byte, at) => at >= 2 && byte <= '02' && around[at - 1] === '00' && around[at - 2] === '00',
    );
    expect(codes).toEqual([]);
  }
});

test('nonsense is cut or refused, and never fails', () => {
  const random = randoms(2);
  const next = () => random.next().value as number;
  for (const codec of SEALABLE_CODECS) {
    for (let round = 0; round < 2000; round += 1) {
      const length = Math.floor(next() * 40);
      const frame = Uint8Array.from({ length }, () => Math.floor(next() * (round % 2 ? 256 : 4)));
      const parts = cut(codec, frame, 20);
      if (parts && codec !== 'h264') {
        expect(join(codec, parts.prefix, parts.plain)).toEqual(frame);
      }
    }
  }
});
