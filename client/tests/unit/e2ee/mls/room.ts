import { type Epoch, Mls, type TIMING } from '../../../../src/e2ee/mls';
import type {
  CommitNews,
  Delivery,
  DeliveryEvent,
  DeliveryRequests,
  GroupState,
} from '../../../../src/e2ee/mls/delivery';
import { MeetingError } from '../../../../src/sdk/errors';

interface Party {
  participantId: string;
  tell: (event: DeliveryEvent) => void;
  keyPackage: string | null;
  isMember: boolean;
}

type Group = { id: string; epoch: number; info: string; commits: CommitNews[] };
type Request = keyof DeliveryRequests;

/**
 * A delivery service in memory, for whoever is to be watched or disturbed: `control/src/mls.rs` is the real one, which
 * the browser tests use.
 */
export class Room {
  group: Group | undefined;
  /** Of what it hands out; `false`: it is lost on the way. */
  delivers: (to: string, event: DeliveryEvent) => boolean = () => true;
  /** Before a request is served. */
  before: (from: string, name: Request) => Promise<void> = async () => undefined;
  /** What it refused. */
  readonly refusals: string[] = [];
  /** Characters of a request. */
  maxRequestLength: number | undefined;
  readonly #parties = new Map<object, Party>();
  readonly #lost = new Set<object>();

  /** A connection, and its end. */
  connect(participantId: string): { delivery: Delivery; leave: () => void } {
    const connection = {};
    const listeners = new Set<Parameters<Delivery['on']>[1]>();
    const tell = (event: DeliveryEvent) => {
      if (!this.delivers(participantId, event)) return;
      queueMicrotask(() => {
        for (const listener of listeners) listener(structuredClone(event));
      });
    };
    const delivery: Delivery = {
      request: async <Name extends Request>(name: Name, data: DeliveryRequests[Name]['data']) => {
        await this.before(participantId, name);
        if (JSON.stringify(data).length >= (this.maxRequestLength ?? Infinity)) {
          throw new Error(`${name} is too long`);
        }
        if (this.#lost.has(connection)) throw new MeetingError('server-gone', 'lost');
        const answer = this.#serve(connection, participantId, tell, name, data);
        return structuredClone(answer) as DeliveryRequests[Name]['answer'];
      },
      on: (_, listener) => {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    };
    const leave = () => {
      this.#lost.add(connection);
      this.#leave(connection);
    };
    return { delivery, leave };
  }

  #serve(
    connection: object,
    participantId: string,
    tell: Party['tell'],
    name: Request,
    data: object,
  ): unknown {
    if (name === 'mlsJoin') {
      const { keyPackage, groupId, epoch } = data as DeliveryRequests['mlsJoin']['data'];
      const isKnown = this.group && this.group.id === groupId && epoch !== undefined;
      const isMember = isKnown === true && epoch <= (this.group?.epoch ?? -1);
      const offered = isMember ? null : keyPackage;
      if (!isMember) {
        this.#parties.delete(connection);
        this.#endIfEmpty();
      }
      this.#parties.set(connection, { participantId, tell, keyPackage: offered, isMember });
      const news = { participantId, keyPackage: offered };
      this.#tellMembers(connection, { name: 'mlsOffered', data: news });
      const missed = this.group?.commits.filter((commit) => isMember && commit.epoch >= epoch);
      return this.#state(connection, missed);
    }
    const party = this.#parties.get(connection);
    if (!party) return this.#refuse('mls-not-joined');
    if (name === 'mlsCreate') {
      const { groupId, groupInfo, replaces } = data as DeliveryRequests['mlsCreate']['data'];
      if (this.group && replaces !== this.group.id) return this.#refuse('mls-group-exists');
      this.#end(connection);
      this.group = { id: groupId, epoch: 0, info: groupInfo, commits: [] };
      Object.assign(party, { isMember: true, keyPackage: null });
      return this.#state(connection);
    }
    const group = this.group ?? this.#refuse('mls-no-group');
    if (name === 'mlsGroup') {
      return { groupId: group.id, epoch: group.epoch, groupInfo: group.info };
    }
    return this.#commit(connection, party, group, data as DeliveryRequests['mlsCommit']['data']);
  }

  #commit(
    connection: object,
    party: Party,
    group: Group,
    data: DeliveryRequests['mlsCommit']['data'],
  ): GroupState {
    const { groupId, epoch, commit, groupInfo, welcome, welcomed = [] } = data;
    if (groupId !== group.id) this.#refuse('mls-no-group');
    if (epoch !== group.epoch) this.#refuse('mls-epoch');
    group.epoch += 1;
    group.info = groupInfo;
    group.commits.push({ groupId, epoch, commit });
    this.#tellMembers(connection, { name: 'mlsCommit', data: { groupId, epoch, commit } });
    Object.assign(party, { isMember: true, keyPackage: null });
    const newcomers = [...this.#parties].filter(
      ([, { participantId, keyPackage }]) => keyPackage && welcomed.includes(participantId),
    );
    for (const [, one] of newcomers) Object.assign(one, { isMember: true, keyPackage: null });
    for (const [of, { tell }] of newcomers) {
      const found = this.#state(of);
      tell({ name: 'mlsWelcome', data: { ...found, welcome: welcome ?? '', groupInfo } });
    }
    return this.#state(connection);
  }

  #leave(connection: object): void {
    const party = this.#parties.get(connection);
    this.#parties.delete(connection);
    if (!party) return;
    const data = { participantId: party.participantId };
    for (const { tell } of this.#parties.values()) tell({ name: 'mlsLeft', data });
    this.#endIfEmpty();
  }

  #endIfEmpty(): void {
    if (![...this.#parties.values()].some(({ isMember }) => isMember)) this.#end(undefined);
  }

  #end(but: object | undefined): void {
    const group = this.group;
    this.group = undefined;
    if (!group) return;
    for (const [connection, party] of this.#parties) {
      Object.assign(party, { isMember: false, keyPackage: null });
      if (connection !== but) party.tell({ name: 'mlsEnded', data: { groupId: group.id } });
    }
  }

  #tellMembers(but: object, event: DeliveryEvent): void {
    for (const [connection, { isMember, tell }] of this.#parties) {
      if (isMember && connection !== but) tell(event);
    }
  }

  #state(connection: object, commits: readonly CommitNews[] = []): GroupState {
    const parties = [...this.#parties.values()];
    const isMember = this.#parties.get(connection)?.isMember === true;
    return {
      groupId: this.group?.id ?? null,
      epoch: this.group?.epoch ?? null,
      isMember,
      participantIds: parties.map(({ participantId }) => participantId),
      waiting: parties
        .filter((party) => isMember && party.keyPackage !== null)
        .map(({ participantId, keyPackage }) => ({ participantId, keyPackage })),
      commits,
    };
  }

  #refuse(reason: string): never {
    this.refusals.push(reason);
    throw new MeetingError('request-refused', `${reason}: no`, { reason });
  }
}

/** A pace for tests. */
export const FAST: typeof TIMING = {
  batch: 20,
  takeover: 150,
  welcome: 400,
  retry: 20,
  maxRetry: 200,
};

/** Someone in a room. */
export class Person {
  readonly name: string;
  readonly epochs: Epoch[] = [];
  readonly mls: Mls;
  readonly #room: Room;
  #leave: (() => void) | undefined;

  constructor(room: Room, name: string, rotateEveryMs = 3_600_000) {
    this.#room = room;
    this.name = name;
    this.mls = new Mls({
      meetingId: 'meeting',
      participantId: name,
      rotateEveryMs,
      entered: (epoch) => this.epochs.push(epoch),
      timing: FAST,
      maxRequestLength: room.maxRequestLength,
    });
  }

  static in(room: Room, name: string, rotateEveryMs?: number): Person {
    const person = new Person(room, name, rotateEveryMs);
    person.connect();
    return person;
  }

  get now(): Epoch | undefined {
    return this.epochs.at(-1);
  }

  connect(): void {
    const { delivery, leave } = this.#room.connect(this.name);
    this.#leave = leave;
    this.mls.connect(delivery);
  }

  /** The connection is lost, and what one has of the group is not. */
  lose(): void {
    this.#leave?.();
  }

  leave(): void {
    this.#leave?.();
    this.mls.close();
  }
}
