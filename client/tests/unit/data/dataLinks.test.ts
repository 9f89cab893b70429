import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Encryption } from '../../../src/e2ee/encryption';
import { newLinkKey, secretOfLinkKey } from '../../../src/e2ee/keys';
import { MeetingError } from '../../../src/sdk/errors';
import { FakeWorker } from '../fake-worker';
import { FakeRoom } from './fake-links';

beforeEach(() => {
  vi.spyOn(console, 'info').mockImplementation(() => undefined);
});

afterEach(() => {
  for (const one of encryptions.splice(0)) one.close();
  vi.useRealTimers();
  vi.restoreAllMocks();
});

const encryptions: Encryption[] = [];

async function encryption(participantId: string, key: string | undefined): Promise<Encryption> {
  const worker = await FakeWorker.load();
  const secret = key === undefined ? undefined : secretOfLinkKey(key);
  const options = { secret, createWorker: () => worker as unknown as Worker };
  const died = () => undefined;
  const one = await Encryption.start(options, { meetingId: 'm', participantId }, died);
  encryptions.push(one);
  return one;
}

/** Lets happen what needs no time. */
const settle = () => new Promise((resolve) => setTimeout(resolve, 20));

/** Waits for workers, which have a machine that may be busy. */
const until = (isDone: () => boolean) => vi.waitUntil(isDone, { timeout: 10_000 });

test('a channel is made with the first message, and taken by all who are there', async () => {
  const room = new FakeRoom();
  const [ann, ben] = [room.join('ann'), room.join('ben')];
  expect([ann.links.isTalking, room.producers.size]).toEqual([false, 0]);
  await ann.links.ready();
  await settle();
  await Promise.all(['one', 'two', 'three'].map((text) => ann.say(text)));
  const cid = room.join('cid');
  await settle();
  await ann.say('four');
  expect(ben.messages).toEqual(['ann: one', 'ann: two', 'ann: three', 'ann: four']);
  expect(cid.messages).toEqual(['ann: four']);
  expect([ben.found, cid.found]).toEqual([[['ann', true]], [['ann', false]]]);
  expect(room.producers.size).toBe(1);
});

test('of each participant the newest channel is taken, and no more', async () => {
  const room = new FakeRoom();
  const [ann, ben] = [room.join('ann'), room.join('ben')];
  await ann.links.ready();
  await settle();
  const [first] = room.producers.values();
  if (!first) throw new Error('no channel');
  for (let n = 0; n < 3; n += 1) {
    const id = room.nextId();
    room.producers.set(id, { ...first, consumers: new Map() });
    ben.offer(id, first, true);
    await settle();
  }
  expect([...room.producers.values()].map(({ consumers }) => consumers.size)).toEqual([0, 0, 0, 1]);
});

test('whoever was cut off for being slow takes the channel again, some times', async () => {
  vi.useFakeTimers();
  const room = new FakeRoom();
  const [ann, ben] = [room.join('ann'), room.join('ben')];
  await ann.links.ready();
  await vi.advanceTimersByTimeAsync(0);
  for (let round = 0; round < 10; round += 1) {
    room.cutOff(ben);
    await vi.advanceTimersByTimeAsync(10_000);
    await ann.say(`${round}`);
  }
  expect(ben.messages).toEqual([0, 1, 2, 3, 4].map((round) => `ann: ${round}`));
});

test('a channel that was closed is made anew, one that is refused is asked for again', async () => {
  const room = new FakeRoom();
  const [ann, ben] = [room.join('ann'), room.join('ben')];
  ann.refusal = new MeetingError('request-refused', 'you may not');
  await expect(ann.links.ready()).rejects.toThrow('you may not');
  await expect(ann.say('x')).rejects.toThrow('you may not');
  ann.refusal = undefined;
  await ann.links.ready();
  for (const { end } of [...room.producers.values()]) end.close();
  await expect(ann.say('lost')).rejects.toMatchObject({ code: 'server-gone' });
  await ann.links.ready();
  await settle();
  await ann.say('heard');
  expect(ben.messages).toEqual(['ann: heard']);
});

test('a channel that does not open is closed at the server too, unless all that was on it is gone', async () => {
  vi.useFakeTimers();
  const room = new FakeRoom();
  const ann = room.join('ann');
  room.opens = false;
  const late = expect(ann.links.ready()).rejects.toMatchObject({ code: 'request-timed-out' });
  await vi.advanceTimersByTimeAsync(0);
  const [id] = room.producers.keys();
  await vi.advanceTimersByTimeAsync(10_000);
  await late;
  expect(room.closed).toEqual([id]);
  const ofFile = expect(ann.links.files.open('f'.repeat(22))).rejects.toThrow();
  await vi.advanceTimersByTimeAsync(10_000);
  await ofFile;
  expect(room.closed).toHaveLength(2);
  const lost = expect(ann.links.ready()).rejects.toMatchObject({ code: 'request-timed-out' });
  await vi.advanceTimersByTimeAsync(0);
  ann.cut();
  await lost;
  expect(room.closed).toHaveLength(2);
  room.opens = true;
  ann.connect();
  await ann.links.ready();
});

test('who may not be read is told so, and who sends too much', async () => {
  const room = new FakeRoom();
  const ann = room.join('ann', await encryption('ann', undefined));
  await expect(ann.links.ready()).rejects.toMatchObject({ code: 'request-refused' });
  await expect(ann.say('x')).rejects.toMatchObject({ code: 'request-refused' });
  expect(room.producers.size).toBe(0);
  const ben = room.join('ben');
  await ben.links.ready();
  for (const { end } of room.producers.values()) end.bufferedAmount = 5_000_000;
  await expect(ben.links.ready()).rejects.toThrow('Too much');
});

test('sealed, messages come in order, and the server carries nothing that can be read', async () => {
  const key = newLinkKey();
  const room = new FakeRoom();
  const ann = room.join('ann', await encryption('ann', key));
  const ben = room.join('ben', await encryption('ben', key));
  const carried: string[] = [];
  const carry = room.carry.bind(room);
  room.carry = (made, bytes) => {
    carried.push(new TextDecoder('latin1').decode(bytes));
    carry(made, bytes);
  };
  await ann.links.ready();
  await settle();
  const texts = Array.from({ length: 30 }, (_, n) => `readable ${n}`);
  await Promise.all(texts.map((text) => ann.say(text)));
  await until(() => ben.messages.length === texts.length);
  expect(ben.messages).toEqual(texts.map((text) => `ann: ${text}`));
  expect(ben.states).toEqual(['ann pending', 'ann encrypted']);
  expect(carried).toHaveLength(30);
  expect(carried.join()).not.toContain('readable');
});

test('what is changed, played again, or another’s is dropped', async () => {
  const key = newLinkKey();
  const room = new FakeRoom();
  const ann = room.join('ann', await encryption('ann', key));
  const ben = room.join('ben', await encryption('ben', key));
  const cid = room.join('cid', await encryption('cid', key));
  const carried: Uint8Array<ArrayBuffer>[] = [];
  const carry = room.carry.bind(room);
  room.carry = (made, bytes) => {
    carried.push(bytes);
    carry(made, bytes);
  };
  await Promise.all([ann.links.ready(), cid.links.ready()]);
  await settle();
  await ann.say('once');
  const [sent] = carried;
  const [ofAnn, ofCid] = [...room.producers.values()];
  if (!sent || !ofAnn || !ofCid) throw new Error('nothing was sent');
  for (let at = 0; at < sent.length; at += 1) {
    carry(ofAnn, sent.map((byte, index) => (index === at ? byte ^ 1 : byte)) as typeof sent);
  }
  for (const cut of [0, 1, sent.length - 1]) carry(ofAnn, sent.slice(0, cut));
  carry(ofAnn, sent);
  carry(ofCid, sent);
  await until(() => ben.dropped >= sent.length + 5);
  expect(ben.messages).toEqual(['ann: once']);
  expect(ben.dropped).toBe(sent.length + 5);
});

test('what is sealed is not taken in the clear, nor the other way round', async () => {
  const key = newLinkKey();
  const room = new FakeRoom();
  const sealed = room.join('ann', await encryption('ann', key));
  const plain = room.join('ben');
  await Promise.all([sealed.links.ready(), plain.links.ready()]);
  await settle();
  expect(room.consumed).toEqual([]);
});

test('a wrong key is a state, and nothing is heard', async () => {
  const room = new FakeRoom();
  const ann = room.join('ann', await encryption('ann', newLinkKey()));
  const ben = room.join('ben', await encryption('ben', newLinkKey()));
  await ann.links.ready();
  await settle();
  for (let n = 0; n < 6; n += 1) await ann.say('x');
  await until(() => ben.dropped === 6);
  expect(ben.states).toEqual(['ann pending', 'ann wrong-key']);
  expect([ben.messages, ben.dropped]).toEqual([[], 6]);
});
