import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type WebhookEvent, WebhookReceiver } from 'livekit-server-sdk';
import { afterEach, expect, test } from 'vitest';
import { freeTcpPort, TestServer } from '../browser/support/server';
import { holds, isProof } from '../browser/support/timing';
import { ceilingMs, until } from '../browser/support/wait';
import { Peer, Refused } from './peer';

const KEY = 'APIhooks';
const SECRET = 'fedcba9876543210fedcba9876543210';

/** How a receiver is down: nobody listens; it takes requests and never answers; it says that it is. */
const DOWN = ['closed', 'hanging', 'unavailable'] as const;

/** A WebhookReceiver of livekit-server-sdk behind HTTP. */
class Receiver {
  readonly events: WebhookEvent[] = [];
  readonly tokens: string[] = [];
  /** What went wrong here: it has to stay empty. */
  readonly faults: string[] = [];
  readonly #server: Server;
  readonly #sdk = new WebhookReceiver(KEY, SECRET);
  #port = 0;
  /** What else than 200 the attempt of this number is answered with; 0: nothing, ever. */
  status: (attempt: number) => number = () => 200;
  attempts = 0;

  private constructor() {
    this.#server = createServer((request, response) => {
      this.#take(request, response).catch((error) => {
        this.faults.push(String(error));
        response.writeHead(400).end();
      });
    });
  }

  static async start(port = 0): Promise<Receiver> {
    const receiver = new Receiver();
    await new Promise<void>((resolve) =>
      receiver.#server.listen(port, '127.0.0.1', () => resolve()),
    );
    receiver.#port = (receiver.#server.address() as AddressInfo).port;
    started.push(receiver);
    return receiver;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}/hook?room=all`;
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    this.attempts += 1;
    const status = this.status(this.attempts);
    if (status === 0) return;
    if (status !== 200) {
      response.writeHead(status, { location: `${this.url}&redirected=1` }).end('not now');
      return;
    }
    expect(request.method).toBe('POST');
    expect(request.url).toBe('/hook?room=all');
    expect(request.headers['content-type']).toBe('application/webhook+json');
    const token = request.headers.authorization ?? '';
    this.tokens.push(token);
    this.events.push(await this.#sdk.receive(Buffer.concat(chunks).toString(), token));
    response.end();
  }

  /** From now on it takes nothing. */
  async goDown(how: (typeof DOWN)[number]): Promise<void> {
    this.status = () => (how === 'hanging' ? 0 : 503);
    if (how === 'closed') await this.#close();
  }

  /** As a program that was started again: whoever waits for an answer gets none. */
  async comeUp(): Promise<void> {
    await this.#close();
    this.status = () => 200;
    await new Promise<void>((resolve) => this.#server.listen(this.#port, '127.0.0.1', resolve));
  }

  /** Waits until so many have come. */
  async has(count: number): Promise<void> {
    await until(
      `${count} webhooks`,
      async () => this.events.length,
      (length) => length >= count,
    );
  }

  /** Those that came, each once; one that comes again comes before any other of its room. */
  distinct(): WebhookEvent[] {
    const last = new Map<string | undefined, string>();
    const seen = new Set<string>();
    return this.events.filter(({ id, room }) => {
      const isRepeated = last.get(room?.name) === id;
      if (!isRepeated) expect(seen.has(id)).toBe(false);
      last.set(room?.name, id);
      seen.add(id);
      return !isRepeated;
    });
  }

  /** Waits until so many have come, each counted once. */
  async hasDistinct(count: number): Promise<void> {
    await until(
      `${count} webhooks, each once`,
      async () => new Set(this.events.map(({ id }) => id)).size,
      (length) => length >= count,
    );
  }

  /** What happened in a room, as short texts. */
  texts(room: string): string[] {
    return this.events.filter((event) => event.room?.name === room).map(textOf);
  }

  async stop(): Promise<void> {
    await this.#close();
  }

  async #close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

const textOf = ({ event, participant }: WebhookEvent): string =>
  participant ? `${event} ${participant.identity}` : event;

const SOURCES = ['microphone', 'camera', 'screen_share'] as const;

const started: { stop(): Promise<unknown> }[] = [];

afterEach(async () => {
  for (const one of started.splice(0).reverse()) await one.stop();
});

async function serverTelling(url: string, flags: string[] = []): Promise<TestServer> {
  const server = await TestServer.start({
    name: 'webhooks',
    flags: [`--webhook-url=${url}`, `--webhook-key=${KEY}=${SECRET}`, ...flags],
  });
  started.push(server);
  return server;
}

async function enter(server: TestServer, room: string, identity: string): Promise<Peer> {
  const query = { roomId: room, peerId: identity };
  const peer = await Peer.connect(server, 'protoo (new)', { query });
  await peer.join(`${identity} of ${room}`);
  return peer;
}

/** A short meeting of two, and what is told of it. */
async function meet(server: TestServer, room: string): Promise<string[]> {
  const ann = await enter(server, room, 'ann');
  await ann.produce('microphone');
  const ben = await enter(server, room, 'ben');
  await ben.produce('screen_share');
  await ann.leave();
  await ben.leave();
  const one = (name: string) => [`track_unpublished ${name}`, `participant_left ${name}`];
  return [
    'room_started',
    'participant_joined ann',
    'track_published ann',
    'participant_joined ben',
    'track_published ben',
    ...one('ann'),
    ...one('ben'),
    'room_finished',
  ];
}

test('a thousand are verified by livekit-server-sdk, in the order of their rooms', async () => {
  const receiver = await Receiver.start();
  // A receiver that is not always well: what it refuses comes again, and no other of its room before.
  receiver.status = (attempt) => (attempt % 50 === 7 ? 503 : 200);
  const server = await serverTelling(receiver.url);
  const rooms = Array.from({ length: 20 }, (_, index) => `room-${index}`);
  await Promise.all(
    rooms.map(async (room) => {
      const people: Peer[] = [];
      for (let index = 0; index < 6; index += 1) {
        const peer = await enter(server, room, `peer-${index}`);
        for (const source of SOURCES) expect(await peer.produce(source)).toHaveProperty('data');
        people.push(peer);
      }
      for (const peer of people) await peer.leave();
    }),
  );
  // Each of six joins, publishes three, unpublishes three and leaves; a room starts and finishes.
  await receiver.has(20 * (6 * 8 + 2));
  expect(receiver.faults).toEqual([]);
  expect(receiver.events).toHaveLength(1000);
  expect(new Set(receiver.events.map(({ id }) => id)).size).toBe(1000);
  for (const room of rooms) checkRoom(receiver.events.filter((event) => event.room?.name === room));
});

/** Follows a room by what is told of it. */
function checkRoom(events: WebhookEvent[]): void {
  const inside = new Map<string, Set<string>>();
  expect(events[0]?.event).toBe('room_started');
  expect(events.at(-1)?.event).toBe('room_finished');
  expect(new Set(events.map(({ room }) => room?.sid)).size).toBe(1);
  for (const { event, room, participant, track, createdAt, numDropped } of events.slice(1, -1)) {
    const who = participant?.sid ?? '';
    const tracks = inside.get(who);
    switch (event) {
      case 'participant_joined':
        expect(tracks).toBeUndefined();
        expect(participant?.name).toBe(`${participant?.identity} of ${room?.name}`);
        inside.set(who, new Set());
        break;
      case 'track_published':
        expect(tracks?.has(track?.sid ?? '')).toBe(false);
        tracks?.add(track?.sid ?? '');
        break;
      case 'track_unpublished':
        expect(tracks?.delete(track?.sid ?? '')).toBe(true);
        break;
      case 'participant_left':
        expect(tracks?.size).toBe(0);
        inside.delete(who);
        break;
      default:
        throw new Error(`${event} within a room`);
    }
    expect(room?.numParticipants).toBe(inside.size);
    expect(Math.abs(Number(createdAt) - Date.now() / 1000)).toBeLessThan(ceilingMs() / 1000);
    expect(numDropped).toBe(0);
  }
  expect(inside.size).toBe(0);
}

test('what happens while the receiver is down arrives when it is up', async () => {
  const port = await freeTcpPort('127.0.0.1');
  const server = await serverTelling(`http://127.0.0.1:${port}/hook?room=all`);
  const told = await Promise.all(['a', 'b', 'c'].map((room) => meet(server, room)));
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const receiver = await Receiver.start(port);
  await receiver.has(told.flat().length);
  for (const [index, room] of ['a', 'b', 'c'].entries()) {
    expect(receiver.texts(room)).toEqual(told[index]);
  }
  expect(receiver.faults).toEqual([]);
});

/** How long receivers are down, and how many rooms go on meanwhile, of 50 webhooks each. */
const [OUTAGE_MS, ROOMS] = isProof ? [60_000, 20] : [3_000, 3];

/** Attempts that the server makes at the same time, to one receiver. */
const ON_THE_WAY = 8;

/** Enters and publishes; what is told of it. */
async function enterAndPublish(server: TestServer, room: string, identity: string) {
  const peer = await enter(server, room, identity);
  for (const source of SOURCES) expect(await peer.produce(source)).toHaveProperty('data');
  const published = SOURCES.map(() => `track_published ${identity}`);
  const left = [
    ...SOURCES.map(() => `track_unpublished ${identity}`),
    `participant_left ${identity}`,
  ];
  return { peer, came: [`participant_joined ${identity}`, ...published], left };
}

test(
  'receivers that are down for a minute lose nothing, and rooms keep their order',
  async () => {
    const receivers = await Promise.all(DOWN.map(() => Receiver.start()));
    const server = await serverTelling(receivers.map(({ url }) => url).join());
    const pause = () => new Promise((resolve) => setTimeout(resolve, OUTAGE_MS / 10));
    /** Half of six come; then receivers go down; the others come, and all leave, one after the other. */
    const live = async (room: string, isDown: Promise<unknown>) => {
      const enterAll = async (from: number, wait: () => Promise<unknown>) => {
        for (let index = from; index < from + 3; index += 1) {
          people.push(await enterAndPublish(server, room, `peer-${index}`));
          await wait();
        }
      };
      const people: Awaited<ReturnType<typeof enterAndPublish>>[] = [];
      await enterAll(0, async () => undefined);
      await isDown;
      await enterAll(3, pause);
      for (const { peer } of people) {
        await peer.leave();
        await pause();
      }
      const told = people.flatMap(({ came }) => came);
      return ['room_started', ...told, ...people.flatMap(({ left }) => left), 'room_finished'];
    };
    const rooms = Array.from({ length: ROOMS }, (_, index) => `room-${index}`);
    /** Says how many each has by then. */
    const goDown = async () => {
      await Promise.all(receivers.map((receiver) => receiver.has(ROOMS * 5)));
      await Promise.all(
        receivers.map((receiver, index) => receiver.goDown(DOWN[index] ?? 'closed')),
      );
      return receivers.map(({ events }) => events.length);
    };
    const down = goDown();
    const lives = rooms.map((room) => live(room, down));
    const before = await down;
    await new Promise((resolve) => setTimeout(resolve, OUTAGE_MS));
    const told = await Promise.all(lives);
    // Nothing came meanwhile but what was on its way.
    for (const [index, { events }] of receivers.entries()) {
      expect(events.length).toBeLessThanOrEqual((before[index] ?? 0) + ON_THE_WAY);
    }
    await Promise.all(receivers.map((receiver) => receiver.comeUp()));
    const begin = Date.now();
    await Promise.all(receivers.map((receiver) => receiver.hasDistinct(ROOMS * 50)));
    // The longest pause between attempts is 15 s.
    holds(`webhooks of ${OUTAGE_MS / 1000} s without receivers, ms`, Date.now() - begin, 20_000);
    for (const [index, receiver] of receivers.entries()) {
      const once = receiver.distinct();
      const again = receiver.events.length - once.length;
      const { attempts } = receiver;
      console.info(
        `measured: ${DOWN[index]}: ${once.length} in ${attempts} attempts, ${again} twice`,
      );
      expect(receiver.faults).toEqual([]);
      expect(once).toHaveLength(ROOMS * 50);
      for (const [number, room] of rooms.entries()) {
        const ofRoom = once.filter((event) => event.room?.name === room);
        checkRoom(ofRoom);
        expect(ofRoom.map(textOf)).toEqual(told[number]);
      }
    }
  },
  OUTAGE_MS + 3 * ceilingMs(),
);

test('a receiver that hangs holds up nobody, and a stop does not wait for it for long', async () => {
  const receiver = await Receiver.start();
  receiver.status = () => 0;
  const server = await serverTelling(receiver.url);
  await meet(server, 'a');
  await until(
    'an attempt',
    async () => receiver.attempts,
    (attempts) => attempts > 0,
  );
  // Signaling answers as if nothing were the matter.
  for (let index = 0; index < 5; index += 1) await meet(server, `room-${index}`);
  expect(receiver.events).toEqual([]);
  const begin = Date.now();
  expect(await server.stop()).toBe(0);
  expect(Date.now() - begin).toBeLessThan(ceilingMs());
});

test('a stop is told, and delivered before the end', async () => {
  const receiver = await Receiver.start();
  const server = await serverTelling(receiver.url);
  await enter(server, 'a', 'ann');
  expect(await server.stop()).toBe(0);
  expect(receiver.texts('a')).toEqual([
    'room_started',
    'participant_joined ann',
    'participant_left ann',
    'room_finished',
  ]);
  // SERVER_SHUTDOWN of LiveKit's DisconnectReason.
  expect(receiver.events[2]?.participant?.disconnectReason).toBe(3);
  expect(receiver.faults).toEqual([]);
});

test('redirects are not followed, and what is wrong for good is not sent again', async () => {
  const receiver = await Receiver.start();
  receiver.status = (attempt) => [302, 400][attempt - 1] ?? 200;
  const server = await serverTelling(receiver.url);
  const told = await meet(server, 'a');
  // room_started is redirected, comes again, and is refused; the others follow.
  await receiver.has(told.length - 1);
  expect(receiver.texts('a')).toEqual(told.slice(1));
  expect(receiver.attempts).toBe(told.length + 1);
  expect(receiver.faults).toEqual([]);
});

test('signed by a key of join tokens they are no join tokens', async () => {
  const receiver = await Receiver.start();
  const flags = [
    `--auth-key=${KEY}=${SECRET}`,
    '--auth-key=APIother=0123456789abcdef0123456789abcdef',
  ];
  const server = await TestServer.start({
    name: 'webhooks-tokens',
    flags: [`--webhook-url=${receiver.url}`, `--webhook-key=${KEY}`, ...flags],
  });
  started.push(server);
  const { AccessToken } = await import('livekit-server-sdk');
  const join = new AccessToken(KEY, SECRET, { identity: 'ann', name: 'Ann' });
  join.addGrant({ roomJoin: true, room: 'a', canPublish: false });
  const ann = await Peer.connect(server, 'opencall', { token: await join.toJwt() });
  await ann.join();
  await ann.leave();
  await receiver.has(4);
  expect(receiver.faults).toEqual([]);
  expect(receiver.events[1]?.participant?.permission).toMatchObject({
    canPublish: false,
    canSubscribe: true,
    hidden: false,
  });
  const token = receiver.tokens[0] ?? '';
  const refused = await Peer.connect(server, 'opencall', { token }).catch((error) => error);
  expect(refused).toBeInstanceOf(Refused);
  expect(refused).toMatchObject({ status: 403, body: { code: 'no_join_grant' } });
});
