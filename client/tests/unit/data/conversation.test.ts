import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Conversation, type Message, type Reaction } from '../../../src/data/conversation';
import { encodeMessage, parseMessage } from '../../../src/data/wire';

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(console, 'info').mockImplementation(() => undefined);
});

afterEach(() => {
  for (const room of rooms.splice(0)) for (const member of room.members.values()) member.leave();
  vi.useRealTimers();
  vi.restoreAllMocks();
});

const rooms: Room[] = [];

/** Numbers that look random, and are the same in each run. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** As a server and its data channels: a channel begins with the first message, and others take it a little later. */
class Room {
  readonly members = new Map<string, Member>();
  /** How long it takes to make a channel from one to another. */
  openAfterMs = (_from: string, _to: string) => 150;
  /** Messages passed on, for all who hear them. */
  delivered = 0;

  constructor() {
    rooms.push(this);
  }

  member(id: string): Member {
    const known = this.members.get(id);
    if (known) return known;
    const member = new Member(id, this);
    this.members.set(id, member);
    return member;
  }

  join(id: string): Member {
    const member = this.member(id);
    member.connect();
    return member;
  }
}

class Member {
  readonly hands = new Map<string, number | undefined>();
  readonly reactions: [string, Reaction | undefined][] = [];
  readonly apps: Message[] = [];
  readonly conversation: Conversation;
  isConnected = false;
  isGoingOn = false;
  refusal: Error | undefined;
  /** Has a channel in this session. */
  isTalking = false;
  hasEntered = false;
  /** Whom it hears in this session. */
  readonly hears = new Set<string>();
  life = 0;
  sent = 0;

  constructor(
    readonly id: string,
    readonly room: Room,
  ) {
    this.conversation = new Conversation({
      participantId: id,
      ready: async () => this.open(),
      send: async (message) => {
        await this.open();
        this.sent += 1;
        for (const other of room.members.values()) {
          if (!other.hears.has(id)) continue;
          room.delivered += 1;
          other.conversation.receive(id, message);
        }
      },
      isConnected: () => this.isConnected,
      isGoingOn: () => this.isGoingOn,
      nameOf: (one) => one.toUpperCase(),
      showHand: (one, at) => this.hands.set(one, at),
      showReaction: (one, reaction) => this.reactions.push([one, reaction]),
      chatChanged: () => undefined,
      appReceived: (message) => this.apps.push(message),
      offers: () => [],
      filesOffered: () => undefined,
      fileMessageReceived: () => undefined,
    });
  }

  get texts(): string[] {
    return this.conversation.chat.map(({ from, text }) => `${from}: ${text}`);
  }

  async open(): Promise<void> {
    if (!this.isConnected) throw new Error('not connected');
    if (this.refusal) throw this.refusal;
    if (this.isTalking) return;
    this.isTalking = true;
    for (const other of this.room.members.values()) {
      if (other !== this && other.isConnected) other.take(this, true);
    }
    this.conversation.talkingBegan();
  }

  take(other: Member, isNew: boolean): void {
    this.conversation.talkerFound(other.id, isNew || this.hasEntered);
    const lives = [this.life, other.life];
    setTimeout(
      () => {
        if (this.life === lives[0] && other.life === lives[1]) this.hears.add(other.id);
      },
      this.room.openAfterMs(other.id, this.id),
    );
  }

  connect(): void {
    this.isConnected = true;
    this.isGoingOn = true;
    for (const other of this.room.members.values()) {
      if (other === this || !other.isConnected) continue;
      other.conversation.participantJoined();
      if (other.isTalking) this.take(other, false);
    }
    this.hasEntered = true;
    this.conversation.connected();
  }

  /** Its session is lost, and it will be back. */
  cut(): void {
    this.life += 1;
    this.isConnected = false;
    this.isTalking = false;
    this.hears.clear();
    for (const other of this.room.members.values()) {
      if (other === this) continue;
      other.hears.delete(this.id);
      if (other.isConnected) other.conversation.participantLeft(this.id);
    }
    this.conversation.lost();
  }

  leave(): void {
    if (this.isConnected) this.cut();
    this.isGoingOn = false;
    this.conversation.stop();
  }
}

function three(): [Room, Member, Member, Member] {
  const room = new Room();
  return [room, room.join('ann'), room.join('ben'), room.join('cid')];
}

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

test('what is said is heard by all, the first word too, once and in order', async () => {
  const [, ann, ben, cid] = three();
  for (const text of ['one', 'two', 'three']) await ann.conversation.sendChat(text);
  await ben.conversation.sendChat('four');
  await pass(2_000);
  for (const texts of [ann.texts, ben.texts, cid.texts]) {
    expect(texts.filter((text) => text.startsWith('ann'))).toEqual([
      'ann: one',
      'ann: two',
      'ann: three',
    ]);
    expect(texts).toContain('ben: four');
    expect(texts).toHaveLength(4);
  }
  expect(ben.conversation.chat[0]).toMatchObject({ from: 'ben', name: 'BEN', mine: true });
  const ids = cid.conversation.chat.map(({ id }) => id);
  expect(new Set(ids).size).toBe(4);
  expect(ben.conversation.chat.map(({ id }) => id).sort()).toEqual(ids.sort());
});

test('whoever is silent has no channel', async () => {
  const [, ann, ben] = three();
  await ann.conversation.sendChat('hello');
  await pass(60_000);
  expect([ann.isTalking, ben.isTalking]).toEqual([true, false]);
});

test('a late joiner learns of raised hands, and is not told what was said before', async () => {
  const [room, ann, ben] = three();
  await ann.conversation.sendChat('before');
  await ann.conversation.raiseHand(true);
  await pass(60_000);
  const dan = room.join('dan');
  await pass(3_000);
  expect(dan.hands.get('ann')).toBe(Date.now() - 63_000);
  expect(dan.texts).toEqual([]);
  await ann.conversation.sendChat('after');
  expect(dan.texts).toEqual(['ann: after']);
  await ann.conversation.raiseHand(false);
  expect([ben, dan].map(({ hands }) => hands.get('ann'))).toEqual([undefined, undefined]);
});

test('a late joiner whose channels take ten seconds learns of raised hands', async () => {
  const [room, ann] = three();
  await ann.conversation.raiseHand(true);
  room.openAfterMs = () => 10_000;
  const dan = room.join('dan');
  await pass(30_000);
  expect(dan.hands.get('ann')).toBeDefined();
});

test('reactions show for a moment, of those who are there', async () => {
  const [, ann, ben] = three();
  await ann.conversation.sendChat('hello');
  await pass(500);
  await ann.conversation.react('👍');
  expect(ben.reactions).toEqual([['ann', { emoji: '👍', at: Date.now() }]]);
  await pass(5_000);
  expect(ben.reactions.at(-1)).toEqual(['ann', undefined]);
  await expect(ann.conversation.react('boo')).rejects.toMatchObject({ code: 'request-refused' });
});

test('what is said while the connection is away is heard when it is back', async () => {
  const [room, ann, ben] = three();
  await ann.conversation.sendChat('one');
  await pass(1_000);
  ann.cut();
  await ann.conversation.sendChat('two');
  await ann.conversation.raiseHand(true);
  await ben.conversation.sendChat('three');
  await expect(ann.conversation.react('👍')).rejects.toMatchObject({ code: 'server-gone' });
  await pass(20_000);
  room.join('ann');
  await pass(6_000);
  expect(ben.texts).toEqual(['ann: one', 'ben: three', 'ann: two']);
  expect(ann.texts).toEqual(['ann: one', 'ann: two', 'ben: three']);
  expect(ben.hands.get('ann')).toBeDefined();
});

test('whoever was away asks for what it missed, and one answer is for all', async () => {
  const room = new Room();
  const members = Array.from({ length: 20 }, (_, at) => room.join(`p${at}`));
  const [ann, ...others] = members as [Member, ...Member[]];
  for (const member of members) await member.conversation.sendChat('hello');
  await pass(30_000);
  for (const other of others.slice(0, 10)) other.cut();
  for (let n = 0; n < 60; n += 1) await ann.conversation.sendChat(`${n}`);
  await pass(10_000);
  const before = ann.sent;
  for (const other of others.slice(0, 10)) other.connect();
  await pass(10_000);
  for (const other of others) {
    const heard = other.texts.filter((text) => text.startsWith('p0:'));
    expect(heard).toEqual(['p0: hello', ...Array.from({ length: 60 }, (_, n) => `p0: ${n}`)]);
  }
  expect(ann.sent - before).toBeLessThan(200);
});

test('what cannot be had again is left out, and the rest is heard', async () => {
  const [, ann, ben] = three();
  await ann.conversation.sendChat('hello');
  await pass(5_000);
  ben.cut();
  for (let n = 0; n < 300; n += 1) await ann.conversation.sendChat(`${n}`);
  await pass(20_000);
  ben.connect();
  await pass(20_000);
  const heard = ben.texts.slice(1);
  expect(heard.at(-1)).toBe('ann: 299');
  expect(heard).toEqual(Array.from({ length: 200 }, (_, n) => `ann: ${n + 100}`));
});

test('a gap that nobody fills holds up the rest for some seconds only', async () => {
  const [, ann, ben] = three();
  const stream = 'x'.repeat(22);
  const entry = (seq: number) => ({ kind: 'entry', stream, seq, sentAt: 1 }) as const;
  const say = (seq: number, chat: string) =>
    ben.conversation.receive('mal', encodeMessage({ ...entry(seq), content: { chat } }));
  say(0, 'a');
  say(7, 'b');
  say(2 ** 50, 'c');
  expect(ben.texts).toEqual(['mal: a']);
  await pass(60_000);
  expect(ben.texts).toEqual(['mal: a', 'mal: b', 'mal: c']);
  // It had to ask, and others do not mind.
  expect(ann.texts).toEqual([]);
});

test.each(['before', 'while', 'before, and again while'])(
  'a gap of who left %s one’s own session was lost holds up the rest for half a minute only',
  async (when) => {
    const [, , ben] = three();
    const stream = 'x'.repeat(22);
    const say = (seq: number, chat: string) => {
      const entry = { kind: 'entry', stream, seq, sentAt: 1, content: { chat } } as const;
      ben.conversation.receive('mal', encodeMessage(entry));
    };
    say(0, 'a');
    say(7, 'b');
    if (when.startsWith('before')) ben.conversation.participantLeft('mal');
    ben.cut();
    await pass(20_000);
    ben.connect();
    await pass(20_000);
    if (when.endsWith('while')) {
      ben.cut();
      ben.connect();
      await pass(20_000);
    }
    expect(ben.texts).toEqual(['mal: a']);
    await pass(11_000);
    expect(ben.texts).toEqual(['mal: a', 'mal: b']);
  },
);

test('who is back after a lost session is asked for what is missed, and not given up', async () => {
  const [, ann, ben] = three();
  await ann.conversation.sendChat('1');
  await pass(1_000);
  ben.cut();
  for (const text of ['2', '3']) await ann.conversation.sendChat(text);
  await pass(20_000);
  ann.cut();
  ben.connect();
  await pass(25_000);
  ann.connect();
  await pass(10_000);
  expect(ben.texts).toEqual(['ann: 1', 'ann: 2', 'ann: 3']);
});

test('a page that was loaded anew begins a new stream', async () => {
  const [room, ann, ben] = three();
  await ann.conversation.sendChat('old');
  await pass(1_000);
  ann.leave();
  room.members.delete('ann');
  const again = room.join('ann');
  await again.conversation.sendChat('new');
  await pass(1_000);
  expect(ben.texts).toEqual(['ann: old', 'ann: new']);
});

test('what is refused is not shown', async () => {
  const [, ann] = three();
  ann.refusal = Object.assign(new Error('no'), { code: 'request-refused' });
  await expect(ann.conversation.sendChat('x')).rejects.toThrow('no');
  await expect(ann.conversation.raiseHand(true)).rejects.toThrow('no');
  expect(ann.texts).toEqual([]);
  expect(ann.hands.get('ann')).toBeUndefined();
  ann.refusal = undefined;
  for (const text of ['', 'x'.repeat(4_001)]) {
    await expect(ann.conversation.sendChat(text)).rejects.toMatchObject({
      code: 'request-refused',
    });
  }
  await expect(ann.conversation.sendApp('x'.repeat(16_384))).rejects.toThrow('too long');
  ann.leave();
  await expect(ann.conversation.sendChat('x')).rejects.toMatchObject({ code: 'server-gone' });
});

test('applications have messages of their own, in the same order', async () => {
  const [, ann, ben] = three();
  await ann.conversation.sendApp({ cursor: [1, 2] });
  await ann.conversation.sendApp(undefined);
  await pass(500);
  expect(ben.apps).toEqual([
    { participantId: 'ann', message: { cursor: [1, 2] } },
    { participantId: 'ann', message: null },
  ]);
  expect(ben.texts).toEqual([]);
});

test('a flood and nonsense are dropped, counted, and harm nobody else', async () => {
  const [, ann, ben] = three();
  const before = ben.conversation.dropped;
  for (let n = 0; n < 2_000; n += 1) {
    ben.conversation.receive('mal', Uint8Array.of(n));
    ben.conversation.receive('mal', encodeMessage({ kind: 'react', emoji: '👍' }));
  }
  expect(before.malformed).toBe(0);
  expect(ben.conversation.dropped).toMatchObject({ malformed: 2_000, 'too-many': 1_990 });
  await ann.conversation.sendChat('hello');
  await pass(500);
  expect(ben.texts).toEqual(['ann: hello']);
});

test('ten thousand streams of strangers are not all remembered', () => {
  const [, , ben] = three();
  const stream = 'x'.repeat(22);
  for (let n = 0; n < 10_000; n += 1) {
    const content = { chat: `${n}` };
    const entry = { kind: 'entry', stream, seq: 0, sentAt: 1, content } as const;
    ben.conversation.receive(`p${n}`, encodeMessage(entry));
  }
  expect(ben.texts).toHaveLength(500);
  expect(parseMessage(encodeMessage({ kind: 'react', emoji: '👍' }))).toBeDefined();
});

test.each(Array.from({ length: 30 }, (_, seed) => seed))(
  'with cuts at any moment everyone has everything, in order (%i)',
  async (seed) => {
    const random = randomOf(seed + 1);
    const room = new Room();
    room.openAfterMs = () => 50 + random() * 1_500;
    const names = ['ann', 'ben', 'cid', 'dan'];
    const members = names.map((name) => room.join(name));
    const said = new Map<string, string[]>(names.map((name) => [name, []]));
    for (let step = 0; step < 150; step += 1) {
      const member = members[Math.floor(random() * members.length)];
      if (!member) continue;
      const what = random();
      if (what < 0.6) {
        const text = `${member.id}: ${step}`;
        said.get(member.id)?.push(text);
        await member.conversation.sendChat(`${step}`);
      } else if (what < 0.75) {
        if (member.isConnected) member.cut();
      } else if (!member.isConnected) member.connect();
      await pass(random() * 2_000);
    }
    for (const member of members) if (!member.isConnected) member.connect();
    await pass(60_000);
    for (const member of members) {
      for (const name of names) {
        const heard = member.texts.filter((text) => text.startsWith(`${name}:`));
        expect(heard, `${name}, by ${member.id}`).toEqual(said.get(name));
      }
    }
  },
);
