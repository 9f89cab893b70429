/**
 * A frame on its way: clear prefix ‖ SFrame ‖ length of the prefix (16 bits). The prefix is SFrame's metadata. Without
 * prefix and length, any implementation of RFC 9605 opens it.
 */
import { type Bytes, bigEndian, concat } from './bytes';
import { cut, escapeNal, join, type SealableCodec, unescapeNal } from './codecs';
import { decodeHeader, encodeHeader, type Header, type SframeKey, seal, TAG_BYTES } from './sframe';

const LENGTH_BYTES = 2;
const MAX_PREFIX_BYTES = 0xffff;

/** A received frame, before anything of it is believed. */
export interface Received {
  readonly prefix: Bytes;
  readonly header: Header;
  readonly sealed: Bytes;
}

/** Seals a frame of a codec; `undefined` if it is no frame of that codec. */
export async function sealFrame(
  codec: SealableCodec,
  key: SframeKey,
  counter: bigint,
  frame: Bytes,
): Promise<Bytes | undefined> {
  const overhead = encodeHeader(key.kid, counter).length + TAG_BYTES + LENGTH_BYTES;
  const parts = cut(codec, frame, overhead);
  if (!parts || parts.prefix.length > MAX_PREFIX_BYTES) return undefined;
  const { prefix, plain } = parts;
  const sealed = await seal(key, counter, prefix, plain as Bytes);
  const body = concat(sealed, bigEndian(BigInt(prefix.length), LENGTH_BYTES));
  return concat(prefix, codec === 'h264' ? escapeNal(prefix, body) : body);
}

/** Takes a frame apart; `undefined` if it was not made by `sealFrame`. */
export function parseFrame(codec: SealableCodec, frame: Bytes): Received | undefined {
  // No prefix is as short as to be escaped itself: one with a slice has six bytes.
  const [high, low] = frame.subarray(-LENGTH_BYTES);
  if (high === undefined || low === undefined) return undefined;
  const length = (high << 8) | low;
  if (length > frame.length - LENGTH_BYTES) return undefined;
  const prefix = frame.subarray(0, length);
  const body = frame.subarray(length);
  const plainBody = codec === 'h264' ? unescapeNal(prefix, body) : body;
  const sealed = plainBody.subarray(0, -LENGTH_BYTES) as Bytes;
  const received = parseMessage(sealed);
  return received && { ...received, prefix };
}

/** Takes a message of a data channel apart, which is SFrame alone; `undefined` if it is too short for that. */
export function parseMessage(sealed: Bytes): Received | undefined {
  const header = decodeHeader(sealed);
  if (!header || sealed.length < header.length + TAG_BYTES) return undefined;
  return { prefix: new Uint8Array(), header, sealed };
}

/** The frame as its encoder made it. */
export function restore(codec: SealableCodec, { prefix }: Received, plain: Bytes): Bytes {
  return join(codec, prefix, plain) as Bytes;
}
