/**
 * Keys from an MLS group (RFC 9420) of all who are in the meeting: who comes is added, who goes is removed, and each change
 * gives new keys. The server's delivery service carries the messages and says which commit came first; it cannot read them.
 */
import type { KeyPackage } from 'ts-mls';
import { Timers } from '../../timers';
import { digits } from '../digits';
import type { EpochSecret } from '../keys';
import type { CommitNews, Delivery, DeliveryEvent, GroupState, Offer } from './delivery';
import {
  type Commit,
  Group,
  keyOf,
  type Member,
  type Newcomer,
  newcomer,
  readKeyPackage,
} from './group';
import { suite } from './suite';

/** Whom keys are for. */
export interface MlsOptions {
  readonly meetingId: string;
  readonly participantId: string;
  /** New keys at least this often. */
  readonly rotateEveryMs: number;
  /** The keys of an epoch have come. */
  entered(epoch: Epoch): void;
  /** Another pace than usual. */
  readonly timing?: typeof TIMING;
  /** Another limit than usual. */
  readonly maxRequestLength?: number | undefined;
}

/** An epoch of the group. */
export interface Epoch {
  readonly secret: EpochSecret;
  readonly number: number;
  /** Equal for all who are in it. */
  readonly code: string;
  /** Who has its keys. */
  readonly members: readonly string[];
}

/** Milliseconds. */
export const TIMING = {
  /** Who comes in one burst is added by one commit. */
  batch: 300,
  /** The next in rank commits so much later, where who should does not. */
  takeover: 2_000,
  /** Who is not added in this time comes in from outside. */
  welcome: 6_000,
  /** Before trying anew what went wrong; it doubles… */
  retry: 500,
  /** …up to this. */
  maxRetry: 8_000,
};

/** However many are before someone, it does not wait for more of them. */
const MAX_RANK = 5;

/** After so many failures in a row the group is taken for broken, and another takes its place. */
const FAILURES_UNTIL_REPLACED = 3;

/** Characters of a commit with all that goes with it: a longer message ends the connection (`--max-message-size`). */
const MAX_REQUEST_LENGTH = 64_000;

/** As many as the server takes in one commit. */
const MAX_ADDED = 50;

/** Rejects with words where this browser lacks what MLS rests on. */
export async function checkMls(): Promise<void> {
  const { hpke, signature } = await suite();
  await Promise.all([hpke.generateKeyPair(), signature.keygen()]).catch(() => {
    throw new Error('this browser has no Ed25519 or X25519');
  });
}

/** One participant's side of the group; it outlives lost connections. */
export class Mls {
  readonly #options: MlsOptions;
  readonly #timers = new Timers();
  readonly #timing: typeof TIMING;
  #delivery: Delivery | undefined;
  #deafen: (() => void) | undefined;
  /** One thing after the other, in the order in which the server said them. */
  #work: Promise<void> = Promise.resolve();
  #own: Newcomer | undefined;
  #group: Group | undefined;
  /** Sent, and not known yet whether it was first. */
  #pending: Commit | undefined;
  #present = new Set<string>();
  /** Key packages of those who wait. */
  #waiting = new Map<string, KeyPackage>();
  #planned: ReturnType<typeof setTimeout> | undefined;
  #waitingForWelcome: ReturnType<typeof setTimeout> | undefined;
  #isRotationDue = false;
  #rotation: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  /** The same of joining from outside. */
  #failuresOutside = 0;
  #isOver = false;

  constructor(options: MlsOptions) {
    this.#options = options;
    this.#timing = options.timing ?? TIMING;
  }

  /** Takes part through this connection: for the first time, or after another was lost. */
  connect(delivery: Delivery): void {
    this.#deafen?.();
    this.#delivery = delivery;
    this.#deafen = delivery.on('event', (event) => this.#hear(event as DeliveryEvent));
    this.#enqueue(() => this.#join());
  }

  close(): void {
    this.#isOver = true;
    this.#deafen?.();
    this.#timers.clear();
    this.#group = undefined;
    this.#own = undefined;
    this.#pending = undefined;
  }

  #enqueue(task: () => Promise<void>): void {
    this.#work = this.#work.then(async () => {
      if (this.#isOver) return;
      await task().catch((error) => {
        if (!this.#isOver) console.info('opencall: MLS', error);
      });
    });
  }

  #hear(event: DeliveryEvent): void {
    switch (event.name) {
      case 'mlsOffered':
        return this.#enqueue(async () => {
          await this.#note(event.data);
          this.#plan();
        });
      case 'mlsLeft':
        return this.#enqueue(async () => {
          this.#present.delete(event.data.participantId);
          this.#waiting.delete(event.data.participantId);
          this.#plan();
        });
      case 'mlsCommit':
        return this.#enqueue(() => this.#take(event.data));
      case 'mlsWelcome':
        return this.#enqueue(() => this.#welcomed(event.data));
      case 'mlsEnded':
        return this.#enqueue(async () => {
          if (this.#group && this.#group.id !== event.data.groupId) return;
          this.#group = undefined;
          await this.#join();
        });
    }
  }

  /** Asks to take part: with what we have of the group, or as a newcomer. */
  async #join(): Promise<void> {
    const delivery = this.#delivery;
    if (!delivery) return;
    this.#own = await newcomer(this.#options.participantId);
    const { id: groupId, epoch } = this.#group ?? {};
    const known = groupId === undefined || epoch === undefined ? {} : { groupId, epoch };
    const own = this.#own;
    let state: GroupState;
    try {
      state = await delivery.request('mlsJoin', { keyPackage: own.text, ...known });
    } catch (error) {
      if (isRefused(error, '') || delivery !== this.#delivery) throw error;
      this.#failures += 1;
      return this.#retry(() => this.#join());
    }
    await this.#know(state);
    if (state.groupId === null) return this.#create();
    if (state.isMember) {
      for (const commit of state.commits) await this.#take(commit);
      if (own !== this.#own) return;
      // Who came and went meanwhile is not there.
      await this.#know(state);
      return this.#plan();
    }
    this.#group = undefined;
    this.#pending = undefined;
    this.#waitForWelcome();
  }

  async #create(replaces?: string): Promise<void> {
    const [delivery, own] = [this.#delivery, this.#own];
    if (!delivery || !own) return;
    this.#group = undefined;
    this.#pending = undefined;
    const group = await Group.create(this.#options.meetingId, own);
    const groupInfo = await group.info();
    const named = replaces === undefined ? {} : { replaces };
    // Of two who begin one, the other is added.
    const state = await delivery
      .request('mlsCreate', { groupId: group.id, groupInfo, ...named })
      .catch(() => undefined);
    if (!state) return this.#waitForWelcome();
    await this.#know(state);
    await this.#enter(group);
  }

  async #welcomed(news: GroupState & { welcome: string; groupInfo: string }): Promise<void> {
    const own = this.#own;
    if (!own || this.#group) return;
    // One for an earlier key package opens nothing: the next one will.
    const { meetingId } = this.#options;
    const group = await Group.join(meetingId, own, news.welcome, news.groupInfo);
    await this.#know(news);
    await this.#enter(group);
  }

  #waitForWelcome(): void {
    this.#timers.cancel(this.#waitingForWelcome);
    this.#waitingForWelcome = this.#timers.after(this.#timing.welcome, () =>
      this.#enqueue(() => this.#joinFromOutside()),
    );
  }

  /** Nobody adds us: perhaps nobody can. */
  async #joinFromOutside(): Promise<void> {
    const [delivery, own] = [this.#delivery, this.#own];
    if (!delivery || !own || this.#group) return;
    let groupId: string | undefined;
    try {
      const found = await delivery.request('mlsGroup', {});
      groupId = found.groupId;
      const { meetingId } = this.#options;
      const made = await Group.joinFromOutside(meetingId, own, found.groupInfo);
      const { commit, groupInfo } = made;
      const data = this.#fitting({ groupId, epoch: found.epoch, commit, groupInfo });
      await this.#know(await delivery.request('mlsCommit', data));
      await this.#enter(made.accepted());
    } catch (error) {
      // That says nothing of the group; someone may leave.
      if (error instanceof RangeError) return this.#waitForWelcome();
      const isLate = isRefused(error, 'mls-epoch');
      if (!isLate) {
        this.#failures += 1;
        if (groupId !== undefined) this.#failuresOutside += 1;
      }
      if (groupId === undefined || this.#failuresOutside < FAILURES_UNTIL_REPLACED) {
        return this.#retry(() => (isLate ? this.#joinFromOutside() : this.#join()));
      }
      this.#failures = 0;
      this.#failuresOutside = 0;
      await this.#create(groupId);
    }
  }

  /** The next epoch, by a commit of whoever was first. */
  async #take({ groupId, epoch, commit }: CommitNews): Promise<void> {
    const group = this.#group;
    if (!group || groupId !== group.id || epoch < group.epoch) return;
    if (this.#pending?.commit === commit) return this.#enter(this.#pending.accepted());
    if (epoch > group.epoch) return this.#join();
    const next = await group.next(commit).catch(() => null);
    if (next) return this.#enter(next);
    // Removed, while one was away; or a commit that nobody could have made who is in the group.
    this.#group = undefined;
    this.#pending = undefined;
    if (next === undefined) return this.#join();
    this.#failures += 1;
    this.#retry(() => this.#join());
  }

  #retry(task: () => Promise<void>): void {
    const { retry, maxRetry } = this.#timing;
    this.#timers.after(Math.min(retry * 2 ** this.#failures, maxRetry), () => this.#enqueue(task));
  }

  async #enter(group: Group): Promise<void> {
    this.#group = group;
    this.#pending = undefined;
    this.#failures = 0;
    this.#failuresOutside = 0;
    this.#isRotationDue = false;
    this.#timers.cancel(this.#waitingForWelcome);
    const { members } = group;
    for (const [id, { leafNode }] of this.#waiting) {
      if (members.some(({ key }) => key === keyOf(leafNode))) this.#waiting.delete(id);
    }
    this.#timers.cancel(this.#rotation);
    this.#rotation = this.#timers.after(this.#options.rotateEveryMs, () => {
      this.#isRotationDue = true;
      this.#plan();
    });
    const secret = { kind: 'epoch', bytes: await group.secret(), tag: group.tag } as const;
    const uses: KeyUsage[] = ['deriveBits'];
    const key = await crypto.subtle.importKey('raw', group.authenticator, 'HKDF', false, uses);
    const code = await digits(key, new TextEncoder().encode('OpenCall E2EE group code 1'));
    const names = new Set(members.map(({ participantId }) => participantId));
    if (!this.#isOver) {
      this.#options.entered({ secret, number: group.epoch, code, members: [...names] });
    }
    this.#plan();
  }

  async #know({ participantIds, waiting }: GroupState): Promise<void> {
    this.#present = new Set(participantIds);
    this.#waiting.clear();
    for (const offer of waiting) await this.#note(offer);
  }

  /** What is no key package of whom it is said to be is not taken. */
  async #note({ participantId, keyPackage }: Offer): Promise<void> {
    this.#present.add(participantId);
    const read = keyPackage === null ? undefined : await readKeyPackage(keyPackage, participantId);
    if (read) this.#waiting.set(participantId, read);
    else this.#waiting.delete(participantId);
  }

  /** Whoever is gone, comes anew, or was here before under our own name. */
  #stale(group: Group): readonly Member[] {
    return group.members.filter(({ index, participantId }) => {
      if (index === group.ownIndex) return false;
      const isOwnName = participantId === this.#options.participantId;
      return isOwnName || !this.#present.has(participantId) || this.#waiting.has(participantId);
    });
  }

  /** Commits soon, if there is anything to: the lowest in the tree first, and the others if it does not. */
  #plan(): void {
    this.#timers.cancel(this.#planned);
    const group = this.#group;
    if (!group) return;
    const stale = this.#stale(group);
    const hasNews = stale.length > 0 || this.#waiting.size > 0;
    if (!hasNews && !this.#isRotationDue) return;
    const gone = new Set(stale.map(({ index }) => index));
    const able = group.members.filter(({ index }) => !gone.has(index));
    const place = able.findIndex(({ index }) => index === group.ownIndex);
    // Keys of all are made anew in turns.
    const first = hasNews ? 0 : group.epoch % able.length;
    const rank = Math.min((place - first + able.length) % able.length, MAX_RANK);
    const { batch, takeover } = this.#timing;
    this.#planned = this.#timers.after(batch + rank * takeover, () =>
      this.#enqueue(() => this.#commit()),
    );
  }

  async #commit(): Promise<void> {
    const [delivery, group] = [this.#delivery, this.#group];
    if (!delivery || !group) return;
    const stale = this.#stale(group).map(({ index }) => index);
    const added = [...this.#waiting].slice(0, MAX_ADDED);
    if (stale.length === 0 && added.length === 0 && !this.#isRotationDue) return;
    const proposed = await this.#propose(group, stale, added);
    if (!proposed) return this.#sift(group, added);
    const { made, data } = proposed;
    this.#pending = made;
    try {
      await this.#know(await delivery.request('mlsCommit', data));
      await this.#enter(made.accepted());
    } catch (error) {
      // The one that was first is on its way, or here already.
      if (isRefused(error, 'mls-epoch')) return;
      // It may have been taken all the same, which the server knows.
      this.#failures += 1;
      this.#retry(() => this.#join());
    }
  }

  /** A commit that fits into a request: with as many newcomers as do, so that who is gone is gone at once. */
  async #propose(group: Group, stale: number[], added: readonly [string, KeyPackage][]) {
    const { id: groupId, epoch } = group;
    for (let count = added.length; ; count >>= 1) {
      const some = added.slice(0, count);
      const packages = some.map(([, keyPackage]) => keyPackage);
      const made = await group.commit(packages, stale).catch(() => undefined);
      if (!made) return undefined;
      const { commit, groupInfo, welcome } = made;
      const welcomed = some.map(([participantId]) => participantId);
      const forThem = welcome ? { welcome, welcomed } : {};
      const data = { groupId, epoch, commit, groupInfo, ...forThem };
      if (count === 0 || this.#fits(data)) return { made, data: this.#fitting(data) };
      // Nothing else is to be done: an epoch for nobody would only be followed by the next.
      if (count === 1 && stale.length === 0 && !this.#isRotationDue) this.#fitting(data);
    }
  }

  /** What is to be sent; throws if that is too long. */
  #fitting<Data extends object>(data: Data): Data {
    if (this.#fits(data)) return data;
    throw new RangeError('the group is too large for the server');
  }

  #fits(data: object): boolean {
    const { maxRequestLength = MAX_REQUEST_LENGTH } = this.#options;
    return JSON.stringify(data).length < maxRequestLength;
  }

  /** Someone's key package cannot be added, or the group is not in order. */
  async #sift(group: Group, added: readonly [string, KeyPackage][]): Promise<void> {
    const before = this.#waiting.size;
    for (const [participantId, keyPackage] of added) {
      await group.commit([keyPackage], []).catch(() => this.#waiting.delete(participantId));
    }
    if (this.#waiting.size < before) return this.#plan();
    this.#group = undefined;
    this.#failures += 1;
    this.#retry(() => this.#join());
  }
}

/** Whether the server refused, with an error of that name. */
function isRefused(error: unknown, name: string): boolean {
  const { code, message } = error as { code?: unknown; message?: string };
  return code === 'request-refused' && message?.startsWith(name) === true;
}
