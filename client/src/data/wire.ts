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

/** Oldest raised hand: a day. */
export const MAX_AGE_MS = 86_400_000;

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
  | { readonly kind: 'ask'; readonly to: string; readonly stream: string; readonly from: number };

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
  const { stream, first, next, handAgeMs } = fields;
  if (!isId(stream) || !isCount(first) || !isCount(next) || first > next) return undefined;
  if (handAgeMs === undefined) return { kind: 'state', stream, first, next };
  if (!isCount(handAgeMs) || handAgeMs > MAX_AGE_MS) return undefined;
  return { kind: 'state', stream, first, next, handAgeMs };
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
