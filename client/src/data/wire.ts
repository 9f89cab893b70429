/**
 * What goes over the room channel: one JSON object a message, in UTF-8. Whoever sends may be a stranger: all that is not
 * of this form, or larger than it may be, is dropped. docs/FILES.md has the format for other clients.
 */
import { utf8 } from '../e2ee/bytes';

/** Of the data channel that each participant makes once it has something to say. */
export const ROOM_LABEL = 'opencall';
export const ROOM_PROTOCOL = 'opencall.room.1';

/** Longest content of an entry, bytes of JSON. */
export const MAX_CONTENT_BYTES = 16_384;

/** Longest message, bytes of JSON: with what sealing adds, every browser takes it in one piece. */
const MAX_MESSAGE_BYTES = MAX_CONTENT_BYTES + 1_024;

/** Longest chat message, UTF-16 units: in any script it fits into a message. */
export const MAX_CHAT_LENGTH = 4_000;

/** An emoji of several people of several colours has 28 units. */
const MAX_EMOJI_LENGTH = 32;

const MAX_ID_LENGTH = 256;

/** Files that one participant offers at a time: with their names they fit into a message. */
export const MAX_OFFERS = 16;

/** UTF-16 units. */
export const MAX_FILE_NAME_LENGTH = 200;
export const MAX_FILE_TYPE_LENGTH = 100;

/** Largest file, bytes: 65,536 chunks. */
export const MAX_FILE_BYTES = 2 ** 32;

/** What a file is cut into, bytes; only its last chunk may be shorter. */
export const CHUNK_BYTES = 65_536;

/** Ranges of chunks in a message. */
export const MAX_RANGES = 64;

/** Oldest raised hand: a day. */
export const MAX_AGE_MS = 86_400_000;

/** A file that its owner would send to who wants it. */
export interface FileOffer {
  readonly file: string;
  readonly name: string;
  readonly size: number;
  /** A media type, as the owner's browser says it. */
  readonly type: string;
  /** Of the SHA-256 hashes of its segments, in hexadecimal digits. */
  readonly hash: string;
}

/** Chunks from the first up to before the second. */
export type Range = readonly [number, number];

/** What is in one's ordered stream: what was said to people, or what the application says to itself. */
export type Content = { readonly chat: string } | { readonly app: unknown };

/** A message of the room channel. */
export type RoomMessage =
  /** All that holds of its sender now; told again whenever someone may not know it. */
  | {
      readonly kind: 'state';
      readonly stream: string;
      /** The oldest entry that can still be sent again, and the number of the next one. */
      readonly first: number;
      readonly next: number;
      /** Since when the hand is raised, milliseconds ago: clocks differ. */
      readonly handAgeMs?: number | undefined;
      readonly files?: readonly FileOffer[] | undefined;
    }
  | {
      readonly kind: 'entry';
      readonly stream: string;
      readonly seq: number;
      /** Unix time, milliseconds, by the sender's clock. */
      readonly sentAt: number;
      readonly content: Content;
    }
  | { readonly kind: 'react'; readonly emoji: string }
  /** Asks a participant to send its entries again, from this one on. */
  | { readonly kind: 'ask'; readonly to: string; readonly stream: string; readonly from: number }
  /** Asks a participant for chunks of a file it offers; for none: to make a channel for it. */
  | {
      readonly kind: 'want';
      readonly to: string;
      readonly file: string;
      readonly ranges: readonly Range[];
    }
  /** Wants no more of a file: it has all of it, or gave up. */
  | { readonly kind: 'stop'; readonly to: string; readonly file: string; readonly done: boolean };

/** Writes a message. */
export function encodeMessage(message: RoomMessage): Uint8Array<ArrayBuffer> {
  return utf8(JSON.stringify(message));
}

/** Reads a message; `undefined` for what is none. */
export function parseMessage(bytes: Uint8Array): RoomMessage | undefined {
  if (bytes.length > MAX_MESSAGE_BYTES) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const fields = value as Record<string, unknown>;
  switch (fields.kind) {
    case 'state':
      return parseState(fields);
    case 'entry':
      return parseEntry(fields);
    case 'react':
      return isEmoji(fields.emoji) ? { kind: 'react', emoji: fields.emoji } : undefined;
    case 'ask': {
      const { to, stream, from } = fields;
      if (!isText(to, MAX_ID_LENGTH) || !isId(stream) || !isCount(from)) return undefined;
      return { kind: 'ask', to, stream, from };
    }
    case 'want': {
      const { to, file, ranges } = fields;
      if (!isText(to, MAX_ID_LENGTH) || !isId(file) || !isRanges(ranges)) return undefined;
      return { kind: 'want', to, file, ranges };
    }
    case 'stop': {
      const { to, file, done } = fields;
      if (!isText(to, MAX_ID_LENGTH) || !isId(file) || typeof done !== 'boolean') return undefined;
      return { kind: 'stop', to, file, done };
    }
    default:
      return undefined;
  }
}

/** Whether this is one picture, and not words. */
export function isEmoji(value: unknown): value is string {
  return isText(value, MAX_EMOJI_LENGTH) && EMOJI.test(value);
}

/** Pictures, flags and keycaps, with all that joins and colours them. */
const EMOJI =
  /^(?:\p{Extended_Pictographic}|\p{Regional_Indicator}|[#*0-9]\u{fe0f}?\u{20e3})(?:\p{Extended_Pictographic}|\p{Regional_Indicator}|\p{Emoji_Modifier}|\u{200d}|\u{fe0f}|\u{20e3}|[\u{e0020}-\u{e007f}])*$/u;

/** Whether this can be said to people. */
export function isChat(value: unknown): value is string {
  return isText(value, MAX_CHAT_LENGTH);
}

function parseState(fields: Record<string, unknown>): RoomMessage | undefined {
  const { stream, first, next, handAgeMs, files = [] } = fields;
  if (!isId(stream) || !isCount(first) || !isCount(next) || first > next) return undefined;
  if (handAgeMs !== undefined && (!isCount(handAgeMs) || handAgeMs > MAX_AGE_MS)) return undefined;
  if (!Array.isArray(files) || files.length > MAX_OFFERS) return undefined;
  const offers = files.map(parseOffer);
  if (!offers.every((offer) => offer !== undefined)) return undefined;
  return {
    ...{ kind: 'state', stream, first, next },
    ...(handAgeMs === undefined ? {} : { handAgeMs }),
    ...(offers.length === 0 ? {} : { files: offers }),
  };
}

function parseOffer(value: unknown): FileOffer | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { file, name, size, type, hash } = value as Record<string, unknown>;
  if (!isId(file) || !isText(name, MAX_FILE_NAME_LENGTH) || !isCount(size)) return undefined;
  if (size > MAX_FILE_BYTES || typeof type !== 'string' || type.length > MAX_FILE_TYPE_LENGTH) {
    return undefined;
  }
  if (typeof hash !== 'string' || !/^[0-9a-f]{64}$/.test(hash)) return undefined;
  return { file, name, size, type, hash };
}

function isRanges(value: unknown): value is Range[] {
  if (!Array.isArray(value) || value.length > MAX_RANGES) return false;
  return value.every(
    (range) =>
      Array.isArray(range) &&
      range.length === 2 &&
      range.every((chunk) => isCount(chunk) && chunk <= MAX_FILE_BYTES / CHUNK_BYTES) &&
      range[0] < range[1],
  );
}

function parseEntry(fields: Record<string, unknown>): RoomMessage | undefined {
  const { stream, seq, sentAt, content } = fields;
  if (!isId(stream) || !isCount(seq) || !isCount(sentAt)) return undefined;
  if (typeof content !== 'object' || content === null) return undefined;
  const known = content as Record<string, unknown>;
  const entry = { kind: 'entry', stream, seq, sentAt } as const;
  if (isChat(known.chat)) return { ...entry, content: { chat: known.chat } };
  return 'app' in known ? { ...entry, content: { app: known.app } } : undefined;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isText(value: unknown, maxLength: number): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= maxLength;
}

/** Drawn at random by its owner. */
export function isId(value: unknown): value is string {
  return typeof value === 'string' && /^[A-Za-z0-9_-]{16,43}$/.test(value);
}
