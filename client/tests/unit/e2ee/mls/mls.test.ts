import { afterEach, expect, test, vi } from 'vitest';
import { fromBase64Url, toBase64Url } from '../../../../src/e2ee/bytes';
import { Group, newcomer } from '../../../../src/e2ee/mls/group';
import { toHex } from '../hex';
import { FAST, Person, Room } from './room';

const people: Person[] = [];

afterEach(() => {
  for (const person of people.splice(0)) person.leave();
});

function enter(room: Room, name: string, rotateEveryMs?: number): Person {
  const person = Person.in(room, name, rotateEveryMs);
  people.push(person);
  return person;
}

function sleep(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs));
}

/** Waits until these, and nobody else, have the same keys and the same code. */
async function agree(...members: Person[]): Promise<void> {
  const names = members.map(({ name }) => name).sort();
  const state = () =>
    members.map(({ now }) => ({
      secret: now && toHex(now.secret.bytes),
      epoch: now?.number,
      code: now?.code,
      members: [...(now?.members ?? [])].sort(),
    }));
  const isAgreed = () => {
    const [first, ...others] = state();
    const isWhole = first?.secret && JSON.stringify(first.members) === JSON.stringify(names);
    return isWhole && others.every((other) => JSON.stringify(other) === JSON.stringify(first));
  };
  const deadline = Date.now() + 12_000;
  while (!isAgreed() && Date.now() < deadline) await sleep(10);
  const [first] = state();
  expect(first?.code).toMatch(/^\d{5}( \d{5}){5}$/);
  expect(first?.members).toEqual(names);
  for (const other of state()) expect(other).toEqual(first);
}

test('who comes is added, and nobody has the keys of before', async () => {
  const room = new Room();
  const ann = enter(room, 'ann');
  await agree(ann);
  const ben = enter(room, 'ben');
  await agree(ann, ben);
  const eve = enter(room, 'eve');
  await agree(ann, ben, eve);
  const secrets = ann.epochs.map(({ secret }) => toHex(secret.bytes));
  expect(new Set(secrets).size).toBe(secrets.length);
  expect(new Set(ann.epochs.map(({ code }) => code)).size).toBe(secrets.length);
  const eves = eve.epochs.map(({ secret }) => toHex(secret.bytes));
  expect(secrets.slice(0, -1).some((secret) => eves.includes(secret))).toBe(false);
});

test('who goes is removed, and cannot follow', async () => {
  const room = new Room();
  const [ann, ben, eve] = ['ann', 'ben', 'eve'].map((name) => enter(room, name));
  if (!ann || !ben || !eve) throw new Error('unreachable');
  await agree(ann, ben, eve);
  // The server gives her all that comes after, too.
  const heard: string[] = [];
  room.delivers = (to, event) => {
    if (to === 'ann' && event.name === 'mlsCommit') heard.push(event.data.commit);
    return true;
  };
  const last = eve.now;
  eve.lose();
  await agree(ann, ben);
  expect(ann.now?.secret).not.toEqual(last?.secret);
  expect(eve.now).toBe(last);
  // Whoever began goes, too: the next in the tree commits.
  ann.leave();
  await agree(ben);
});

test('what removes someone says nothing to them', async () => {
  const [ann, ben] = [await newcomer('ann'), await newcomer('ben')];
  const begun = await Group.create('meeting', ann);
  const added = await begun.commit([ben.publicPackage], []);
  const group = added.accepted();
  const bens = await Group.join('meeting', ben, added.welcome ?? '', added.groupInfo);
  expect(await bens.secret()).toEqual(await group.secret());
  const removed = await group.commit([], [1]);
  expect(await bens.next(removed.commit)).toBeUndefined();
  expect(bens.epoch).toBe(1);
  expect(await removed.accepted().secret()).not.toEqual(await bens.secret());
});

test('many who come at once share commits', async () => {
  const room = new Room();
  const all = Array.from({ length: 12 }, (_, at) => enter(room, `p${at}`));
  await agree(...all);
  expect(room.group?.epoch).toBeLessThan(6);
}, 20_000);

test('more than fit into a request come by several, and who is gone is gone at once', async () => {
  const room = new Room();
  room.maxRequestLength = 4_600;
  const [ann, ben] = [enter(room, 'ann'), enter(room, 'ben')];
  await agree(ann, ben);
  const cleo = enter(room, 'cleo');
  await agree(ann, ben, cleo);
  const told = vi.spyOn(console, 'info');
  ben.leave();
  const crowd = Array.from({ length: 4 }, (_, at) => enter(room, `p${at}`));
  const epoch = room.group?.epoch ?? 0;
  await agree(ann, cleo, ...crowd);
  expect((room.group?.epoch ?? 0) - epoch).toBeGreaterThan(1);
  const withBen = ann.epochs.filter(({ members }) => members.includes('ben'));
  expect(withBen.every(({ number }) => number <= epoch)).toBe(true);
  const isTooLong = ([, error]: unknown[]) => error instanceof RangeError;
  expect(told.mock.calls.filter(isTooLong)).toEqual([]);
  told.mockRestore();
}, 20_000);

test('of two commits of one epoch one counts, and the other is made anew', async () => {
  const room = new Room();
  const [ann, ben] = [enter(room, 'ann'), enter(room, 'ben')];
  await agree(ann, ben);
  // Both are slow, so that each has made a commit when the other's comes.
  let late: (() => void)[] = [];
  room.before = async (_, name) => {
    if (name === 'mlsCommit') await new Promise<void>((resolve) => late.push(resolve));
  };
  const eve = enter(room, 'eve');
  while (late.length < 2) await sleep(5);
  room.before = async () => undefined;
  for (const go of late.splice(0)) go();
  await agree(ann, ben, eve);
  expect(room.refusals.filter((reason) => reason === 'mls-epoch')).toHaveLength(1);
  late = [];
});

test('who is not welcomed comes in from outside', async () => {
  const room = new Room();
  const ann = enter(room, 'ann');
  await agree(ann);
  room.delivers = (to, event) => !(to === 'ann' && event.name === 'mlsOffered');
  const ben = enter(room, 'ben');
  await agree(ann, ben);
  room.delivers = (to, { name }) => !(to === 'eve' && name === 'mlsWelcome');
  const eve = enter(room, 'eve');
  await agree(ann, ben, eve);
});

test('who was away takes what it missed, or comes anew where it was removed', async () => {
  const room = new Room();
  const [ann, ben] = [enter(room, 'ann', 100), enter(room, 'ben')];
  await agree(ann, ben);
  // Lost and back before anyone removes it.
  ben.lose();
  ben.connect();
  await agree(ann, ben);
  const before = ben.now?.number ?? 0;
  ben.lose();
  await agree(ann);
  ben.connect();
  await agree(ann, ben);
  expect(ben.now?.number).toBeGreaterThan(before + 1);
});

test('a page that was loaded again takes the place of the one before', async () => {
  const room = new Room();
  const [ann, ben] = [enter(room, 'ann'), enter(room, 'ben')];
  await agree(ann, ben);
  ben.leave();
  const again = enter(room, 'ben');
  await agree(ann, again);
  expect(again.now?.secret).not.toEqual(ben.now?.secret);
});

test('keys are made anew as time goes, by all in turns', async () => {
  const room = new Room();
  const [ann, ben] = [enter(room, 'ann', 60), enter(room, 'ben', 60)];
  await agree(ann, ben);
  const began = room.group?.epoch ?? 0;
  const deadline = Date.now() + 10_000;
  while ((room.group?.epoch ?? 0) < began + 6 && Date.now() < deadline) await sleep(20);
  expect(room.group?.epoch).toBeGreaterThanOrEqual(began + 6);
  const secrets = ann.epochs.map(({ secret }) => toHex(secret.bytes));
  expect(new Set(secrets).size).toBe(secrets.length);
}, 20_000);

test('a group that is broken is replaced by another', async () => {
  const room = new Room();
  const [ann, ben] = [enter(room, 'ann'), enter(room, 'ben')];
  await agree(ann, ben);
  // Someone who is in the room and in no group ends the epoch with nonsense.
  const { delivery } = room.connect('eve');
  const broken = room.group?.id ?? '';
  room.delivers = (_, event) => event.name !== 'mlsOffered' || event.data.participantId !== 'eve';
  await delivery.request('mlsJoin', { keyPackage: 'AAAA' });
  const nonsense = { commit: 'AAAA', groupInfo: 'AAAA' };
  const epoch = room.group?.epoch ?? 0;
  await delivery.request('mlsCommit', { groupId: broken, epoch, ...nonsense });
  const deadline = Date.now() + 15_000;
  while ((!room.group || room.group.id === broken) && Date.now() < deadline) await sleep(10);
  expect(room.group?.id).not.toBe(broken);
  await agree(ann, ben);
}, 20_000);

test('what is no key package of whom it is said to be is not added, and keeps nobody out', async () => {
  const room = new Room();
  const ann = enter(room, 'ann');
  await agree(ann);
  const { text } = await newcomer('mallory');
  const bytes = fromBase64Url(text) ?? new Uint8Array();
  // A signature that is none.
  bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1;
  const forged = {
    x: 'AAAA',
    y: text,
    mallory: toBase64Url(bytes),
    z: toBase64Url(bytes.subarray(9)),
  };
  for (const [name, keyPackage] of Object.entries(forged)) {
    const { delivery } = room.connect(name);
    await delivery.request('mlsJoin', { keyPackage });
  }
  const ben = enter(room, 'ben');
  await agree(ann, ben);
  await sleep(2 * FAST.batch);
  expect(ann.now?.members).not.toContain('mallory');
});

test('nothing of another meeting is taken', async () => {
  const [ann, ben] = [await newcomer('ann'), await newcomer('ben')];
  const group = await Group.create('one', ann);
  const added = await group.commit([ben.publicPackage], []);
  const { welcome = '', groupInfo } = added;
  await expect(Group.join('two', ben, welcome, groupInfo)).rejects.toThrow(/another meeting/);
  await expect(Group.joinFromOutside('two', ben, groupInfo)).rejects.toThrow(/another meeting/);
  await expect(Group.join('one', await newcomer('ben'), welcome, groupInfo)).rejects.toThrow();
});

test('what was changed on its way, or comes again, is refused', async () => {
  const [ann, ben] = [await newcomer('ann'), await newcomer('ben')];
  const begun = await Group.create('meeting', ann);
  const added = await begun.commit([ben.publicPackage], []);
  const group = added.accepted();
  const bens = await Group.join('meeting', ben, added.welcome ?? '', added.groupInfo);
  const { commit, accepted } = await group.commit([], []);
  const bytes = fromBase64Url(commit) ?? new Uint8Array();
  for (let at = 0; at < bytes.length; at += 7) {
    const changed = Uint8Array.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ 0x10;
    await expect(bens.next(toBase64Url(changed)), `byte ${at}`).rejects.toThrow();
  }
  await expect(bens.next(toBase64Url(bytes.subarray(0, -1)))).rejects.toThrow();
  const next = await bens.next(commit);
  expect(await next?.secret()).toEqual(await accepted().secret());
  await expect(next?.next(commit)).rejects.toThrow();
});
