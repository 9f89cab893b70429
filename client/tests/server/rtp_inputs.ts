import { notation } from './peer';

/** What JSON holds. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** An object of JSON. */
export type JsonObject = { [name: string]: Json };

/** Numbers from 0 up to 1, always the same for one seed (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.next() * list.length)] as T;
  }
}

/** What stands where something else is expected. */
const VALUES: readonly Json[] = [
  null,
  true,
  false,
  '',
  'enabled',
  '96',
  'video/VP8',
  [],
  {},
  0,
  1,
  2,
  96,
  -1,
  1e6 / 3,
  29.97,
  1e12,
  2 ** 32,
];

/** Members as clients may write them, by the object that they belong to. */
const MEMBERS: Record<string, [string, Json][]> = {
  codecs: [
    ['channels', null],
    ['channels', 1],
    ['parameters', null],
    ['parameters', { apt: 96 }],
    ['parameters', { 'profile-level-id': '42e01f', 'packetization-mode': 1 }],
    ['parameters', { 'profile-level-id': '42e034', 'packetization-mode': '1' }],
    ['parameters', { 'profile-id': '0', 'x-google-start-bitrate': 1000.5, a: '' }],
    ['parameters', 'none'],
    ['rtcpFeedback', null],
    ['rtcpFeedback', [{ type: 'nack' }, { type: 'nack', parameter: null }, { type: 'x', y: 1 }]],
    ['rtcpFeedback', [{ type: 'ccm', parameter: 7 }]],
    ['mimeType', 'VIDEO/vp8'],
    ['preferredPayloadType', null],
    ['preferredPayloadType', ''],
    ['kind', 'audio'],
    ['kind', 7],
    ['kind', null],
  ],
  headerExtensions: [
    ['encrypt', null],
    ['encrypt', 0],
    ['parameters', { a: 1, b: 'c' }],
    ['parameters', 'none'],
    ['uri', 'urn:unknown'],
    ['preferredEncrypt', null],
    ['preferredEncrypt', ''],
    ['direction', 'recvonly'],
    ['direction', 'stopped'],
    ['direction', ''],
    ['direction', null],
    ['id', 15],
    ['preferredId', 200],
  ],
  encodings: [
    ['scalabilityMode', ''],
    ['scalabilityMode', 'L3T3_KEY'],
    ['scalabilityMode', 'none'],
    ['dtx', 'enabled'],
    ['active', null],
    ['active', 'yes'],
    ['maxBitrate', 1e6 / 3],
    ['maxBitrate', null],
    ['maxFramerate', 29.97],
    ['maxFramerate', null],
    ['maxFramerate', '30'],
    ['scaleResolutionDownBy', 1.5],
    ['scaleResolutionDownBy', null],
    ['scaleResolutionDownBy', '2'],
    ['networkPriority', 'high'],
    ['adaptivePtime', true],
    ['rtx', null],
    ['rtx', { ssrc: 77, extra: {} }],
    ['rid', null],
    ['rid', ''],
    ['ssrc', null],
    ['ssrc', 0],
    ['ssrc', ''],
    ['codecPayloadType', null],
    ['codecPayloadType', 96],
  ],
  rtcp: [
    ['cname', null],
    ['cname', ''],
    ['reducedSize', 'no'],
    ['mux', true],
  ],
  '': [
    ['mid', null],
    ['mid', ''],
    ['msid', 'a b'],
    ['msid', null],
    ['headerExtensions', null],
    ['headerExtensions', false],
    ['encodings', null],
    ['encodings', ''],
    ['encodings', []],
    ['encodings', 0],
    ['codecs', null],
    ['rtcp', null],
    ['rtcp', false],
    ['rtcp', {}],
    ['transactionId', 'x'],
  ],
};

interface Place {
  /** The object or array that it is in. */
  parent: JsonObject | Json[];
  key: string;
  /** The list that it belongs to. */
  list: string;
}

/** A copy with up to three things changed, as other clients, or a mistake of theirs, would write it. */
export function vary(random: Random, input: JsonObject): JsonObject {
  const copy = structuredClone(input);
  for (let left = Math.ceil(random.next() * 3); left > 0; left -= 1) {
    const place = random.pick(places(copy));
    change(random, copy, place);
  }
  return copy;
}

function places(root: JsonObject): Place[] {
  const found: Place[] = [];
  const visit = (parent: JsonObject | Json[], list: string) => {
    for (const [key, value] of Object.entries(parent)) {
      found.push({ parent, key, list });
      if (value === null || typeof value !== 'object') continue;
      visit(value, list || (Array.isArray(value) || key === 'rtcp' ? key : ''));
    }
  };
  visit(root, '');
  return found;
}

function change(random: Random, root: JsonObject, { parent, key, list }: Place): void {
  const members = parent as JsonObject;
  const value = members[key] as Json;
  const chance = random.next();
  if (typeof value === 'number' && chance < 0.5) {
    members[key] = rewritten(random, value);
  } else if (chance < 0.75) {
    const [name, other] = random.pick(MEMBERS[list] ?? MEMBERS[''] ?? []);
    const owner = objectAt(parent, value) ?? root;
    owner[name] = structuredClone(other);
  } else if (chance < 0.85) {
    if (Array.isArray(parent)) parent.splice(Number(key), 1);
    else delete members[key];
  } else if (chance < 0.95) {
    members[key] = structuredClone(random.pick(VALUES));
  } else {
    (objectAt(parent, value) ?? root).extra = structuredClone(random.pick(VALUES));
  }
}

/** The nearest object: the value itself, or what it is in. */
function objectAt(parent: JsonObject | Json[], value: Json): JsonObject | undefined {
  if (value !== null && typeof value === 'object' && !Array.isArray(value)) return value;
  return Array.isArray(parent) ? undefined : parent;
}

/** The same number as another program might write it. */
function rewritten(random: Random, number: number): string {
  if (!Number.isInteger(number)) return notation(number.toExponential());
  return notation(random.pick([`${number}.0`, number.toExponential(), `${number}.000e0`]));
}
