import { describe, expect, test } from 'vitest';
import type { Bytes } from '../../../src/e2ee/bytes';
import { cut, SEALABLE_CODECS, type SealableCodec } from '../../../src/e2ee/codecs';
import encoded from './encoded-frames.json';
import { outcome, pair, sealed } from './frames';
import { toHex } from './hex';

/** SFrame's header, tag and the length. */
const OVERHEAD = 1 + 16 + 2;

const framesOf = (codec: SealableCodec, kind: 'key' | 'delta'): Bytes[] =>
  encoded.frames[codec][kind].map((text) => new Uint8Array(Buffer.from(text, 'base64')));

/** Bytes in the clear of a frame of a real encoder: SPS and PPS, sequence header. */
const CLEAR: Record<SealableCodec, { key: number; delta: number }> = {
  opus: { key: 0, delta: 0 },
  vp8: { key: 10, delta: 1 },
  vp9: { key: 0, delta: 0 },
  h264: { key: 37, delta: 6 },
  av1: { key: 21, delta: 4 },
};

describe.each(SEALABLE_CODECS)('frames of a real encoder of %s', (codec) => {
  test.each(['key', 'delta'] as const)('%s frames: no more is clear than must be', (kind) => {
    for (const frame of framesOf(codec, kind)) {
      expect(cut(codec, frame, OVERHEAD)?.prefix).toHaveLength(CLEAR[codec][kind]);
    }
  });

  test('they come back as they were, and nothing of their content goes along', async () => {
    const { sealer, opener } = await pair();
    const frames = [...framesOf(codec, 'key'), ...framesOf(codec, 'delta')];
    expect(frames.length).toBeGreaterThan(0);
    for (const frame of frames) {
      const bytes = await sealed(sealer, frame, 'camera', codec);
      if (frame.length > 64) {
        const clear = CLEAR[codec].key;
        for (let at = clear; at + 8 < frame.length; at += 8) {
          expect(toHex(bytes)).not.toContain(toHex(frame.subarray(at, at + 8)));
        }
      }
      const opened = await opener().open(codec, bytes, 0);
      expect(outcome(opened)).toBe('opened');
      expect('frame' in opened && toHex(opened.frame)).toBe(toHex(frame));
    }
  });
});

test('AV1: what is sent has whole units, so that packetizers find their way', async () => {
  const { sealer } = await pair();
  for (const kind of ['key', 'delta'] as const) {
    for (const frame of framesOf('av1', kind)) {
      const bytes = await sealed(sealer, frame, 'camera', 'av1');
      // The last unit is the frame, and ends with the bytes.
      const units: number[] = [];
      for (let at = 0; at < bytes.length; ) {
        const header = bytes[at] ?? 0;
        expect(header & 0x02).toBe(0x02);
        units.push((header >> 3) & 0xf);
        at += header & 0x04 ? 2 : 1;
        let size = 0;
        for (let shift = 0; ; shift += 7) {
          const byte = bytes[at] ?? 0;
          at += 1;
          size += (byte & 0x7f) << shift;
          if ((byte & 0x80) === 0) break;
        }
        at += size;
        expect(at).toBeLessThanOrEqual(bytes.length);
      }
      expect(units).toEqual(kind === 'key' ? [1, 6] : [6]);
    }
  }
});
