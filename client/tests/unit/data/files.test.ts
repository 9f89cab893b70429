import { createHash, randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { FileDesk } from '../../../src/data/files/desk';
import { hashFile } from '../../../src/data/files/hash';
import { OutgoingFile } from '../../../src/data/files/outgoing';
import { ReceivedFile } from '../../../src/data/files/received';
import type { FileHost } from '../../../src/data/files/types';
import { SharedFiles } from '../../../src/data/sharedFiles';
import { CHUNK_BYTES, encodeMessage, parseMessage } from '../../../src/data/wire';
import { Encryption } from '../../../src/e2ee/encryption';
import { newLinkKey, secretOfLinkKey } from '../../../src/e2ee/keys';
import { FakeWorker } from '../fake-worker';
import { FakePeer, FakeRoom } from './fake-links';

const MIB = 1_048_576;
const urls = new Map<string, Blob>();
const desks: FileDesk[] = [];

beforeEach(() => {
  vi.useFakeTimers({
    toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date'],
  });
  vi.spyOn(console, 'info').mockImplementation(() => undefined);
  vi.spyOn(URL, 'createObjectURL').mockImplementation((blob) => {
    urls.set(`blob:${urls.size}`, blob as Blob);
    return `blob:${urls.size - 1}`;
  });
  vi.spyOn(URL, 'revokeObjectURL').mockImplementation((url) => void urls.delete(url));
});

afterEach(() => {
  for (const desk of desks.splice(0)) desk.stop();
  urls.clear();
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** Someone with files. */
class Sharer extends FakePeer {
  readonly desk: FileDesk;
  /** Chunks that came. */
  chunks = 0;
  onChunk: (() => void) | undefined;

  constructor(id: string, room: FakeRoom, encryption?: Encryption) {
    super(id, room, encryption);
    this.desk = new FileDesk({
      participantId: id,
      isConnected: () => this.isConnected,
      send: (message) => this.links.send(encodeMessage(message)),
      tellOffers: () => this.tell(),
      openFile: (file) => this.links.files.open(file),
      takeFile: (from, file, received, ended) =>
        this.links.files.take(
          from,
          file,
          (message) => {
            this.chunks += 1;
            received(message);
            this.onChunk?.();
          },
          ended,
        ),
      changed: () => undefined,
    });
    desks.push(this.desk);
    room.peers.push(this);
  }

  tell(): Promise<void> {
    const state = { kind: 'state', stream: 's'.repeat(16), first: 0, next: 0 } as const;
    return this.links.send(encodeMessage({ ...state, files: this.desk.offers }));
  }

  override handlers() {
    return {
      ...super.handlers(),
      messageReceived: (from: string, bytes: Uint8Array) => {
        const message = parseMessage(bytes);
        if (message?.kind === 'state') this.desk.offered(from, message.files ?? []);
        if (message?.kind === 'want' || message?.kind === 'stop') this.desk.received(from, message);
      },
      fileChannelFound: (from: string, file: string) => this.desk.channelFound(from, file),
    };
  }

  override cut() {
    super.cut();
    this.desk.lost();
    for (const peer of this.room.peers) (peer as Sharer).desk.participantLeft(this.id);
  }

  override connect() {
    super.connect();
    this.desk.connected();
    // As a conversation does, a little later too.
    for (const delayMs of [0, 1_000]) {
      setTimeout(() => {
        for (const peer of this.room.peers) void (peer as Sharer).tell().catch(() => undefined);
      }, delayMs);
    }
  }

  file(id: string) {
    const file = this.desk.list.find((one) => one.id === id);
    if (!file) throw new Error('no such file');
    return file;
  }

  async hashOf(id: string): Promise<string> {
    const blob = urls.get(this.file(id).url ?? '');
    if (!blob) throw new Error('it has no address');
    return digest(new Uint8Array(await blob.arrayBuffer()));
  }
}

const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** Real time passes for what threads do, and virtual time for what waits. */
async function until(isSo: () => boolean, limitMs = 600_000): Promise<void> {
  for (let passedMs = 0; !isSo(); passedMs += 10) {
    if (passedMs > limitMs) throw new Error('it does not happen');
    await vi.advanceTimersByTimeAsync(10);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** The others' channels are made with the first word of each. */
async function meet(...sharers: Sharer[]): Promise<void> {
  await Promise.all(sharers.map((sharer) => sharer.links.ready()));
  await until(() => true);
  await vi.advanceTimersByTimeAsync(10);
}

async function two(): Promise<[Sharer, Sharer]> {
  const room = new FakeRoom();
  const [ann, ben] = [new Sharer('ann', room), new Sharer('ben', room)];
  await meet(ann, ben);
  return [ann, ben];
}

const random = (size: number) => new Uint8Array(randomBytes(size));
const done = (sharer: Sharer, id: string) => until(() => sharer.file(id).state === 'done');

test.each([0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, MIB, 3 * MIB + 5])(
  'a file of %i bytes arrives as it is',
  async (size) => {
    const [ann, ben] = await two();
    const bytes = random(size);
    const id = await ann.desk.send(new Blob([bytes], { type: 'image/png' }), 'a.png');
    await until(() => ben.desk.list.length === 1);
    expect(ben.file(id)).toEqual({
      ...{ id, from: 'ann', name: 'a.png', size, type: 'image/png' },
      ...{ transferred: 0, state: 'offered', mine: false },
    });
    expect(ann.file(id)).toMatchObject({ state: 'offered', mine: true });
    ben.desk.accept(id);
    await done(ben, id);
    expect(ben.file(id).transferred).toBe(size);
    expect(await ben.hashOf(id)).toBe(digest(bytes));
    if (size === 0) return;
    await until(() => ann.file(id).state === 'done');
    expect(ann.file(id).transferred).toBe(size);
    // No chunk twice, where nothing was lost.
    expect(ben.chunks).toBe(Math.ceil(size / CHUNK_BYTES));
  },
);

test('of one upload everyone has the file, whenever they begin', async () => {
  const room = new FakeRoom();
  const [ann, ben, cid] = ['ann', 'ben', 'cid'].map((id) => new Sharer(id, room));
  if (!ann || !ben || !cid) throw new Error('nobody');
  await meet(ann, ben, cid);
  const bytes = random(8 * MIB);
  const id = await ann.desk.send(new Blob([bytes]), 'a');
  await until(() => cid.desk.list.length === 1 && ben.desk.list.length === 1);
  let carried = 0;
  const carry = room.carry.bind(room);
  room.carry = (made, message) => {
    if (made.label === 'opencall.file') carried += 1;
    carry(made, message);
  };
  ben.desk.accept(id);
  ben.onChunk = () => {
    if (ben.chunks === 30) cid.desk.accept(id);
  };
  await Promise.all([done(ben, id), done(cid, id)]);
  for (const one of [ben, cid]) expect(await one.hashOf(id)).toBe(digest(bytes));
  // The second has at most what it missed sent again.
  expect(carried).toBeLessThan(2 * 128);
});

test('several files at once', async () => {
  const [ann, ben] = await two();
  const files = Array.from({ length: 5 }, (_, n) => random(MIB + n));
  const ids: string[] = [];
  for (const [n, bytes] of files.entries()) {
    const sender = n % 2 ? ann : ben;
    ids.push(await sender.desk.send(new Blob([bytes]), `${n}`));
  }
  await until(() => ben.desk.list.length === 5 && ann.desk.list.length === 5);
  for (const [n, id] of ids.entries()) (n % 2 ? ben : ann).desk.accept(id);
  for (const [n, id] of ids.entries()) {
    const receiver = n % 2 ? ben : ann;
    await done(receiver, id);
    expect(await receiver.hashOf(id)).toBe(digest(files[n] ?? new Uint8Array()));
  }
});

test.each(Array.from({ length: 12 }, (_, seed) => seed))(
  'cut at any chunk, on either side, it goes on (%i)',
  async (seed) => {
    let state = seed + 1;
    const next = (bound: number) => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * bound);
    };
    const [ann, ben] = await two();
    const bytes = random(6 * MIB + next(MIB));
    const id = await ann.desk.send(new Blob([bytes]), 'a');
    await until(() => ben.desk.list.length === 1);
    let until_ = 1 + next(40);
    let cuts = 0;
    ben.onChunk = () => {
      if (ben.chunks < until_ || cuts === 6) return;
      until_ = ben.chunks + 1 + next(40);
      cuts += 1;
      const what = next(4);
      if (what === 0) return ben.room.cutOff(ben);
      if (what === 1) return void loseSome(ben.room, 1 + next(20));
      const who = what === 2 ? ann : ben;
      who.cut();
      setTimeout(() => who.connect(), next(20_000));
    };
    ben.desk.accept(id);
    await done(ben, id);
    expect(cuts).toBeGreaterThan(1);
    expect(await ben.hashOf(id)).toBe(digest(bytes));
    expect(ben.chunks).toBeLessThan(400);
  },
);

/** So many messages do not arrive. */
function loseSome(room: FakeRoom, count: number) {
  const carry = room.carry;
  let left = count;
  room.carry = (made, message) => {
    if (left > 0) left -= 1;
    else {
      room.carry = carry;
      room.carry(made, message);
    }
  };
}

test('a file that is sealed arrives, and the server carries nothing that can be read', async () => {
  const key = newLinkKey();
  const room = new FakeRoom();
  const encryption = async (participantId: string) => {
    const worker = await FakeWorker.load();
    const createWorker = () => worker as unknown as Worker;
    const options = { secret: secretOfLinkKey(key), createWorker };
    return Encryption.start(options, { meetingId: 'm', participantId }, () => undefined);
  };
  const encryptions = [await encryption('ann'), await encryption('ben')];
  const ann = new Sharer('ann', room, encryptions[0]);
  const ben = new Sharer('ben', room, encryptions[1]);
  await meet(ann, ben);
  const carried: Uint8Array[] = [];
  const carry = room.carry.bind(room);
  room.carry = (made, message) => {
    carried.push(message);
    carry(made, message);
  };
  const bytes = new TextEncoder().encode('readable '.repeat(300_000));
  const id = await ann.desk.send(new Blob([bytes]), 'readable.txt');
  await until(() => ben.desk.list.length === 1);
  ben.desk.accept(id);
  await done(ben, id);
  expect(await ben.hashOf(id)).toBe(digest(bytes));
  const said = carried.map((message) => Buffer.from(message).toString('latin1')).join();
  expect(said.length).toBeGreaterThan(bytes.length);
  expect(said).not.toContain('readable');
  for (const one of encryptions) one.close();
});

test('what is not what was offered fails, and is not shown', async () => {
  const [ann, ben] = await two();
  const blob = new Blob([random(2 * MIB)]);
  const id = await ann.desk.send(blob, 'a');
  await until(() => ben.desk.list.length === 1);
  const carry = ann.room.carry.bind(ann.room);
  ann.room.carry = (made, message) => {
    if (made.label === 'opencall.file' && message[3] === 7) message[100] = (message[100] ?? 0) ^ 1;
    carry(made, message);
  };
  ben.desk.accept(id);
  await until(() => ben.file(id).state === 'failed');
  expect(ben.file(id).url).toBeUndefined();
  expect(ann.file(id).state).toBe('offered');
  ann.room.carry = carry;
  ben.desk.accept(id);
  await done(ben, id);
});

test('either side can give up, at any moment', async () => {
  const [ann, ben] = await two();
  const ids = [];
  for (let n = 0; n < 3; n += 1) ids.push(await ann.desk.send(new Blob([random(4 * MIB)]), 'a'));
  const [first, second, third] = ids as [string, string, string];
  await until(() => ben.desk.list.length === 3);
  ben.onChunk = () => {
    if (ben.chunks === 5) void ben.desk.cancel(first);
    if (ben.chunks === 20) void ann.desk.cancel(second);
  };
  for (const id of [first, second]) ben.desk.accept(id);
  await until(() => ben.file(second).state === 'cancelled');
  expect(ben.file(first).state).toBe('cancelled');
  await until(() => ann.file(first).state === 'offered');
  expect(ann.file(second).state).toBe('cancelled');
  // What was declined is not asked for.
  await ben.desk.cancel(third);
  expect(ben.file(third).state).toBe('cancelled');
  const before = ben.chunks;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(ben.chunks).toBe(before);
  // Whoever thinks better of it begins anew, as long as it is offered.
  ben.onChunk = undefined;
  for (const id of [first, third]) ben.desk.accept(id);
  for (const id of [first, third]) await done(ben, id);
  expect(() => ben.desk.accept(second)).toThrow('not offered any more');
});

test('who leaves for good takes the file along; what is done stays, until it is forgotten', async () => {
  const [ann, ben] = await two();
  const small = await ann.desk.send(new Blob([random(10)]), 'small');
  const large = await ann.desk.send(new Blob([random(9 * MIB)]), 'large');
  await until(() => ben.desk.list.length === 2);
  ben.desk.accept(small);
  await done(ben, small);
  ben.onChunk = () => {
    if (ben.isConnected && ann.isConnected) ann.cut();
  };
  ben.desk.accept(large);
  await until(() => ben.file(large).state === 'paused');
  await until(() => ben.file(large).state === 'failed');
  expect(ben.file(small)).toMatchObject({ state: 'done', url: 'blob:0' });
  await ben.desk.cancel(small);
  expect(ben.file(small)).toMatchObject({ state: 'cancelled' });
  expect(urls.size).toBe(0);
});

test('an owner who left while one’s own session was lost has left, too', async () => {
  const [ann, ben] = await two();
  const id = await ann.desk.send(new Blob([random(9 * MIB)]), 'a');
  const other = await ann.desk.send(new Blob([random(10)]), 'b');
  await until(() => ben.desk.list.length === 2);
  ben.onChunk = () => {
    if (ben.isConnected) ben.cut();
  };
  ben.desk.accept(id);
  await until(() => !ben.isConnected);
  ann.cut();
  ben.connect();
  await until(() => ben.file(id).state === 'failed', 100_000);
  expect(ben.file(other).state).toBe('cancelled');
  const send = vi.spyOn(ben.links, 'send');
  await vi.advanceTimersByTimeAsync(60_000);
  expect(send).not.toHaveBeenCalled();
  // Whoever offers it again is back.
  ann.connect();
  ben.onChunk = undefined;
  await until(() => ann.isConnected);
  await vi.advanceTimersByTimeAsync(2_000);
  ben.desk.accept(id);
  await done(ben, id);
});

test('a session that is lost and an owner who stays end nothing', async () => {
  const [ann, ben] = await two();
  const id = await ann.desk.send(new Blob([random(10)]), 'a');
  await until(() => ben.desk.list.length === 1);
  ben.cut();
  await vi.advanceTimersByTimeAsync(1_000);
  ben.connect();
  await vi.advanceTimersByTimeAsync(300_000);
  expect(ben.file(id).state).toBe('offered');
  ben.desk.accept(id);
  await done(ben, id);
  expect(ann.isConnected).toBe(true);
});

test('what is still read when the meeting is left is not offered in the next', async () => {
  const [ann] = await two();
  const blob = new Blob([random(3 * MIB)]);
  const slice = vi.spyOn(blob, 'slice');
  const sending = ann.desk.send(blob, 'a');
  sending.catch(() => undefined);
  await until(() => slice.mock.calls.length > 0);
  ann.desk.stop();
  await expect(sending).rejects.toMatchObject({ code: 'server-gone' });
  expect(slice.mock.calls.length).toBeLessThan(3);
  expect(ann.desk.offers).toEqual([]);
  expect(ann.desk.list).toEqual([]);
  await ann.desk.send(new Blob(['x']), 'next');
  expect(ann.desk.offers).toHaveLength(1);
});

test('own files that were withdrawn are forgotten when there are many, and let go at once', async () => {
  const [ann] = await two();
  const kept = await ann.desk.send(new Blob(['x']), 'kept');
  for (let n = 0; n < 250; n += 1) {
    await ann.desk.cancel(await ann.desk.send(new Blob(['x']), `${n}`));
  }
  expect(ann.desk.list).toHaveLength(200);
  expect(ann.file(kept).state).toBe('offered');
  expect(ann.desk.list.at(-1)).toMatchObject({ name: '249', state: 'cancelled' });
});

/** One file, and the channels that were made for it. */
function outgoing(chunks: number) {
  const blob = new Blob([random(chunks * CHUNK_BYTES)]);
  const channels: { sent: number[]; isClosed: boolean }[] = [];
  const openFile = async () => {
    const made = { sent: [] as number[], isClosed: false };
    channels.push(made);
    await new Promise((resolve) => setTimeout(resolve, 50));
    const producer = {
      bufferedAmount: 0,
      get closed() {
        return made.isClosed;
      },
      send: (message: Uint8Array) => made.sent.push(message[3] ?? -1),
    };
    return {
      producer,
      seal: async (message: Uint8Array) => message,
      close: () => {
        made.isClosed = true;
      },
    };
  };
  const host = { openFile, changed: () => undefined, tellOffers: async () => undefined };
  const offer = { file: 'f', name: 'f', size: blob.size, type: '', hash: '' };
  return { file: new OutgoingFile(offer, blob, host as unknown as FileHost), blob, channels };
}

test.each(['stop', 'lost'] as const)(
  'who asks while what was asked for before is still read is served at once (%s)',
  async (how) => {
    const { file, blob, channels } = outgoing(4);
    let go: (() => void) | undefined;
    const { slice } = blob;
    vi.spyOn(blob, 'slice').mockImplementationOnce((...range) => {
      const piece = slice.apply(blob, range);
      const read = piece.arrayBuffer.bind(piece);
      piece.arrayBuffer = async () => {
        await new Promise<void>((resolve) => {
          go = resolve;
        });
        return read();
      };
      return piece;
    });
    file.want('ben', [[0, 2]], Date.now());
    await until(() => go !== undefined);
    if (how === 'stop') file.stop('ben', false);
    else {
      file.lost();
      for (const channel of channels) channel.isClosed = true;
    }
    await until(() => channels[0]?.isClosed === true);
    file.want('cid', [[1, 4]], Date.now());
    go?.();
    await until(() => channels[1]?.sent.length === 3, 1_000);
    expect(channels.map(({ sent }) => sent)).toEqual([[], [1, 2, 3]]);
  },
);

test('who asks for a channel alone while the one before is given back has another', async () => {
  const { file, channels } = outgoing(4);
  file.want('ben', [], Date.now());
  await until(() => channels.length === 1);
  file.stop('ben', false);
  file.want('cid', [], Date.now());
  await until(() => channels.length === 2 && channels[0]?.isClosed === true, 1_000);
  expect(channels[1]?.isClosed).toBe(false);
  file.want('cid', [[2, 3]], Date.now());
  await until(() => channels[1]?.sent.length === 1, 1_000);
  expect(channels).toHaveLength(2);
});

/** As a meeting sees them: what handles files is loaded with the first. */
function sharedFiles() {
  const host = { participantId: 'ben', isConnected: () => true, tellOffers: async () => undefined };
  const changed = () => undefined;
  return new SharedFiles({ ...host, changed } as unknown as FileHost);
}

const anOffer = { file: 'f'.repeat(16), name: 'f', size: 1, type: '', hash: '0'.repeat(64) };

test('an owner who leaves while what handles files is loaded has left', async () => {
  const files = sharedFiles();
  files.offered('ann', [anOffer]);
  files.participantLeft('ann');
  await until(() => files.list.length === 1);
  expect(files.list[0]?.state).toBe('offered');
  await vi.advanceTimersByTimeAsync(100_000);
  expect(files.list[0]?.state).toBe('cancelled');
});

test('a meeting that is left while what handles files is loaded has none', async () => {
  const files = sharedFiles();
  files.offered('ann', [anOffer]);
  const sending = files.send(new Blob(['x']), 'x');
  sending.catch(() => undefined);
  files.stop();
  await expect(sending).rejects.toMatchObject({ code: 'server-gone' });
  await vi.advanceTimersByTimeAsync(1_000);
  expect([files.list, files.offers]).toEqual([[], []]);
  // The next one has again.
  files.offered('ann', [anOffer]);
  await until(() => files.list.length === 1);
  files.stop();
});

test('a file that changed after it was offered fails for its owner, and is withdrawn', async () => {
  vi.spyOn(console, 'warn').mockImplementation(() => undefined);
  const [ann, ben] = await two();
  const blob = new Blob([random(MIB)]);
  const id = await ann.desk.send(blob, 'a');
  await until(() => ben.desk.list.length === 1);
  vi.spyOn(blob, 'slice').mockImplementation(() => {
    throw new DOMException('gone', 'NotReadableError');
  });
  ben.desk.accept(id);
  await until(() => ben.file(id).state === 'cancelled');
  await until(() => ann.file(id).state === 'failed');
});

test('what strangers claim is bounded', async () => {
  const [ann, ben] = await two();
  for (let n = 0; n < 500; n += 1) {
    const file = `${n}`.padStart(16, '0');
    const hash = '0'.repeat(64);
    ben.desk.offered(`p${n}`, [{ file, name: '../..\u202e/x', size: 2 ** 32, type: '', hash }]);
  }
  expect(ben.desk.list).toHaveLength(200);
  expect(ben.desk.list[0]?.name).toBe('.._..__x');
  for (let n = 0; n < 16; n += 1) await ann.desk.send(new Blob(['x']), `${n}`);
  await expect(ann.desk.send(new Blob(['x']), 'y')).rejects.toMatchObject({
    code: 'request-refused',
  });
  // Who asks without end is served the file some times.
  const own = await ben.desk.send(new Blob([random(MIB)]), 'b');
  let carried = 0;
  ben.room.carry = (made) => {
    if (made.label === 'opencall.file') carried += 1;
  };
  const [, file = ''] = own.split('/');
  for (let n = 0; n < 200; n += 1) {
    ben.desk.received('mal', { kind: 'want', to: 'ben', file, ranges: [[0, 65_536]] });
    await vi.advanceTimersByTimeAsync(10);
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(carried).toBeGreaterThan(16);
  expect(carried).toBeLessThanOrEqual(4 * (16 + 256));
});

test('a page of a stranger is not shown as one of this page’s', async () => {
  const [ann, ben] = await two();
  const types = ['text/html', 'image/svg+xml', 'application/pdf', 'image/png', 'video/webm'];
  const shown = [];
  for (const type of types) {
    const id = await ann.desk.send(new Blob(['<script>'], { type }), 'a');
    await until(() => ben.desk.list.some((file) => file.id === id));
    ben.desk.accept(id);
    await done(ben, id);
    shown.push(urls.get(ben.file(id).url ?? '')?.type);
  }
  const neutral = 'application/octet-stream';
  expect(shown).toEqual([neutral, neutral, neutral, 'image/png', 'video/webm']);
});

test('chunks come in any order; what is none of the file is not taken', async () => {
  const bytes = random(3 * MIB + 100);
  const blob = new Blob([bytes]);
  const hash = await hashFile(blob);
  const file = new ReceivedFile(bytes.length);
  const order = Array.from({ length: file.chunks }, (_, n) => n).reverse();
  const chunk = (at: number) => bytes.subarray(at * CHUNK_BYTES, (at + 1) * CHUNK_BYTES);
  expect(file.missing(0, 10)).toEqual([[0, 10]]);
  expect(file.take(0, chunk(0).subarray(1))).toBe(false);
  expect(file.take(file.chunks, chunk(0))).toBe(false);
  expect(await file.assemble(hash, '')).toBeUndefined();
  for (const at of order.slice(0, 20)) expect(file.take(at, chunk(at))).toBe(true);
  expect(file.take(order[3] ?? 0, chunk(order[3] ?? 0))).toBe(false);
  expect(file.missing(0, 1_000)).toEqual([[0, file.chunks - 20]]);
  expect(file.take(5, chunk(5))).toBe(true);
  expect(file.missing(2, 7)).toEqual([
    [2, 5],
    [6, 10],
  ]);
  for (const at of order) file.take(at, chunk(at));
  const whole = await file.assemble(hash, 'image/png');
  expect(digest(new Uint8Array((await whole?.arrayBuffer()) ?? []))).toBe(digest(bytes));
  expect(await file.assemble('0'.repeat(64), '')).toBeUndefined();
});

test('the hash is that of the segments’ hashes, also on pages without https', async () => {
  const bytes = random(2 * MIB + 3);
  const expected = createHash('sha256');
  for (let at = 0; at < bytes.length; at += MIB) {
    expected.update(
      createHash('sha256')
        .update(bytes.subarray(at, at + MIB))
        .digest(),
    );
  }
  const hash = expected.digest('hex');
  expect(await hashFile(new Blob([bytes]))).toBe(hash);
  vi.stubGlobal('crypto', {});
  try {
    expect(await hashFile(new Blob([bytes]))).toBe(hash);
  } finally {
    vi.unstubAllGlobals();
  }
});
