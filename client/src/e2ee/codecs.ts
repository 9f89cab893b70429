/**
 * The clear part of an encoded frame: what packetizers, the server and depacketizers read. All else is sealed. Chosen by
 * measurement: with less in the clear, some browser or layer switch fails.
 */
import { concat } from './bytes';

/** Codecs whose frames can be sealed; a track of any other is not sent. */
export const SEALABLE_CODECS = ['opus', 'vp8', 'vp9', 'h264', 'av1'] as const;
export type SealableCodec = (typeof SEALABLE_CODECS)[number];

/** A frame, cut. */
export interface Cut {
  /** Sent as it is, and authenticated. */
  readonly prefix: Uint8Array;
  /** Sealed. */
  readonly plain: Uint8Array;
}

/** The codec of a MIME type such as `video/VP8`; `undefined` if its frames cannot be sealed. */
export function codecOf(mimeType: string | undefined): SealableCodec | undefined {
  const name = mimeType?.toLowerCase().split('/')[1];
  return SEALABLE_CODECS.find((codec) => codec === name);
}

/**
 * Cuts a frame. `overhead` is how much longer the sealed part is than the plain one. `undefined`: this is no frame of the
 * codec, and is not to be sent.
 */
export function cut(codec: SealableCodec, frame: Uint8Array, overhead: number): Cut | undefined {
  switch (codec) {
    case 'opus':
    case 'vp9':
      return { prefix: new Uint8Array(), plain: frame };
    case 'vp8':
      return cutVp8(frame);
    case 'h264':
      return cutH264(frame);
    case 'av1':
      return cutAv1(frame, overhead);
  }
}

/** Joins what `cut` has cut. */
export function join(codec: SealableCodec, prefix: Uint8Array, plain: Uint8Array): Uint8Array {
  // The clear units of AV1 are for the way only: the whole frame was sealed.
  return codec === 'av1' ? plain : concat(prefix, plain);
}

/** The frame tag, with start code and size in key frames (RFC 6386 §9.1); bit 0 is clear in those. */
function cutVp8(frame: Uint8Array): Cut {
  const isKey = ((frame[0] ?? 1) & 1) === 0;
  const length = Math.min(isKey ? 10 : 1, frame.length);
  return { prefix: frame.subarray(0, length), plain: frame.subarray(length) };
}

/** NAL unit types, ITU-T H.264 table 7-1. */
const H264_SLICES = [1, 5];
const H264_PARAMETER_SETS = [7, 8];

/**
 * The parameter sets, and of the first slice its header up to `pic_parameter_set_id`, which receivers read. Start codes
 * have four bytes, as depacketizers write them; units that decoders do without are left out, they would be in the clear.
 */
function cutH264(frame: Uint8Array): Cut | undefined {
  const clear: Uint8Array[] = [];
  for (const { begin, end } of nalUnits(frame)) {
    const type = (frame[begin] ?? 0) & 0x1f;
    if (H264_PARAMETER_SETS.includes(type)) {
      clear.push(START_CODE, frame.subarray(begin, end));
    } else if (H264_SLICES.includes(type)) {
      const length = 1 + sliceHeaderBytes(frame.subarray(begin + 1, end));
      if (begin + length > end) return undefined;
      clear.push(START_CODE, frame.subarray(begin, begin + length));
      return { prefix: concat(...clear), plain: frame.subarray(begin + length) };
    }
  }
  return undefined;
}

const START_CODE = Uint8Array.of(0, 0, 0, 1);

/** The NAL units of an Annex B byte stream, without their start codes. */
function* nalUnits(frame: Uint8Array): Generator<{ begin: number; end: number }> {
  let begin = -1;
  for (let at = 0; at + 2 < frame.length; at += 1) {
    if (frame[at] !== 0 || frame[at + 1] !== 0 || frame[at + 2] !== 1) continue;
    // The fourth byte of a start code is a zero before it.
    if (begin >= 0) yield { begin, end: frame[at - 1] === 0 ? at - 1 : at };
    begin = at + 3;
    at += 2;
  }
  if (begin >= 0 && begin < frame.length) yield { begin, end: frame.length };
}

/** Longest Exp-Golomb code of a slice header's first values: 32-bit numbers. */
const MAX_LEADING_ZEROS = 31;

/** Bytes until the end of `first_mb_in_slice`, `slice_type`, `pic_parameter_set_id` (7.3.3), each Exp-Golomb coded. */
function sliceHeaderBytes(payload: Uint8Array): number {
  let bit = 0;
  let zeroBytes = 0;
  const next = () => {
    if ((bit & 7) === 0) {
      // An emulation prevention byte holds no bits of the header.
      if (zeroBytes >= 2 && payload[bit >> 3] === 3) {
        bit += 8;
        zeroBytes = 0;
      }
      zeroBytes = payload[bit >> 3] === 0 ? zeroBytes + 1 : 0;
    }
    const value = ((payload[bit >> 3] ?? 0xff) >> (7 - (bit & 7))) & 1;
    bit += 1;
    return value;
  };
  for (let field = 0; field < 3; field += 1) {
    let zeros = 0;
    while (zeros <= MAX_LEADING_ZEROS && next() === 0) zeros += 1;
    for (let rest = zeros; rest > 0; rest -= 1) next();
  }
  return Math.ceil(bit / 8);
}

/** OBU types, AV1 §6.2.2. */
const AV1_SEQUENCE_HEADER = 1;
const AV1_FRAME_HEADER = 3;
const AV1_FRAME = 6;
const AV1_HAS_EXTENSION = 0x04;
const AV1_HAS_SIZE = 0x02;

/**
 * The sequence header, and a frame unit whose content is the sealed part. Both have sizes, as depacketizers write them.
 * The whole frame is sealed, so that what it was made of comes back as it was.
 */
function cutAv1(frame: Uint8Array, overhead: number): Cut | undefined {
  const clear: Uint8Array[] = [];
  for (const unit of obus(frame)) {
    if (unit.type === AV1_SEQUENCE_HEADER) {
      clear.push(obuHeader(AV1_SEQUENCE_HEADER, unit), leb128(unit.content.length), unit.content);
    } else if (unit.type === AV1_FRAME || unit.type === AV1_FRAME_HEADER) {
      clear.push(obuHeader(AV1_FRAME, unit), leb128(frame.length + overhead));
      return { prefix: concat(...clear), plain: frame };
    }
  }
  return undefined;
}

interface Obu {
  type: number;
  /** Temporal and spatial id, where the unit has them. */
  extension: number | undefined;
  content: Uint8Array;
}

function* obus(frame: Uint8Array): Generator<Obu> {
  for (let at = 0; at < frame.length; ) {
    const header = frame[at] ?? 0;
    const extension = header & AV1_HAS_EXTENSION ? frame[at + 1] : undefined;
    let begin = at + (extension === undefined ? 1 : 2);
    let length = frame.length - begin;
    if (header & AV1_HAS_SIZE) {
      const size = readLeb128(frame, begin);
      if (!size || size.end + size.value > frame.length) return;
      begin = size.end;
      length = size.value;
    }
    const content = frame.subarray(begin, begin + length);
    yield { type: (header >> 3) & 0xf, extension, content };
    at = begin + length;
  }
}

function obuHeader(type: number, { extension }: Obu): Uint8Array {
  const header = (type << 3) | AV1_HAS_SIZE;
  return extension === undefined
    ? Uint8Array.of(header)
    : Uint8Array.of(header | AV1_HAS_EXTENSION, extension);
}

/** Little endian, seven bits a byte (AV1 §4.10.5). */
export function leb128(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest = Math.floor(rest / 128);
  } while (rest > 0);
  return Uint8Array.from(bytes);
}

/** A size has 32 bits: five bytes. */
const MAX_LEB128_BYTES = 5;

function readLeb128(bytes: Uint8Array, begin: number): { value: number; end: number } | undefined {
  let value = 0;
  for (let read = 0; read < MAX_LEB128_BYTES; read += 1) {
    const byte = bytes[begin + read];
    if (byte === undefined) return undefined;
    value += (byte & 0x7f) * 128 ** read;
    if ((byte & 0x80) === 0) return { value, end: begin + read + 1 };
  }
  return undefined;
}

/**
 * Escapes what follows `before` in a NAL unit, so that no start code appears in it (ITU-T H.264 §7.4.1: after two zero
 * bytes, one of 0 to 3 is preceded by a 3).
 */
export function escapeNal(before: Uint8Array, bytes: Uint8Array): Uint8Array {
  // At most one byte more for each two, and one after zeros of `before`.
  const escaped = new Uint8Array(bytes.length + (bytes.length >> 1) + 1);
  let length = 0;
  let zeros = trailingZeros(before);
  for (const byte of bytes) {
    if (zeros >= 2 && byte <= 3) {
      escaped[length] = 3;
      length += 1;
      zeros = 0;
    }
    escaped[length] = byte;
    length += 1;
    zeros = byte === 0 ? zeros + 1 : 0;
  }
  return escaped.subarray(0, length);
}

/** Undoes `escapeNal`. */
export function unescapeNal(before: Uint8Array, bytes: Uint8Array): Uint8Array {
  const plain = new Uint8Array(bytes.length);
  let length = 0;
  let zeros = trailingZeros(before);
  for (const byte of bytes) {
    if (zeros >= 2 && byte === 3) {
      zeros = 0;
      continue;
    }
    plain[length] = byte;
    length += 1;
    zeros = byte === 0 ? zeros + 1 : 0;
  }
  return plain.subarray(0, length);
}

function trailingZeros(bytes: Uint8Array): number {
  let zeros = 0;
  while (zeros < bytes.length && bytes[bytes.length - 1 - zeros] === 0) zeros += 1;
  return zeros;
}
