import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { fromBase64Url, toBase64Url } from '../../src/e2ee/bytes';
import { Group, type Newcomer, newcomer, readKeyPackage } from '../../src/e2ee/mls/group';
import { fromHex, toHex } from '../unit/e2ee/hex';

/** Additions and removals, in an order drawn at random. */
const STEPS = 20;

/** So many at most are in the group. */
const MAX_MEMBERS = 7;

const manifest = join(import.meta.dirname, 'mls/Cargo.toml');
const target = process.env.OPENCALL_MLS_TARGET ?? join(import.meta.dirname, '../../../target/mls');

let peer: ChildProcess;
let lines: AsyncIterator<string>;

beforeAll(() => {
  peer = spawn(
    'cargo',
    ['run', '--quiet', '--locked', '--manifest-path', manifest, '--target-dir', target],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  if (!peer.stdout) throw new Error('unreachable: it is piped');
  lines = createInterface(peer.stdout)[Symbol.asyncIterator]();
});

afterAll(() => {
  peer?.kill();
});

/** Asks the crate `openmls`. */
async function ask(...words: string[]): Promise<string> {
  peer.stdin?.write(`${words.join(' ')}\n`);
  const { value } = await lines.next();
  if (value === undefined || value.startsWith('!')) throw new Error(`${words[0]}: ${value}`);
  return value;
}

const toPeer = (text: string) => toHex(fromBase64Url(text) ?? new Uint8Array());
const fromPeer = (text: string) => toBase64Url(fromHex(text));

/** What both implementations know of a member. */
interface Member {
  readonly name: string;
  packageOf(): Promise<string>;
  join(welcome: string, groupInfo: string): Promise<void>;
  process(commit: string): Promise<boolean>;
  commit(added: string[], removed: number[]): Promise<[string, string, string]>;
  look(): Promise<string>;
}

class Ours implements Member {
  readonly name: string;
  #own: Newcomer | undefined;
  #group: Group | undefined;

  constructor(name: string) {
    this.name = name;
  }

  async begin(): Promise<void> {
    this.#own = await newcomer(this.name);
    this.#group = await Group.create('meeting', this.#own);
  }

  get indices(): Map<string, number> {
    const members = this.#group?.members ?? [];
    return new Map(members.map(({ participantId, index }) => [participantId, index]));
  }

  async packageOf(): Promise<string> {
    this.#own = await newcomer(this.name);
    return this.#own.text;
  }

  async join(welcome: string, groupInfo: string): Promise<void> {
    if (!this.#own) throw new Error('nobody was asked');
    this.#group = await Group.join('meeting', this.#own, welcome, groupInfo);
  }

  /** Comes in by a description of the group; its commit. */
  async joinFromOutside(groupInfo: string): Promise<string> {
    this.#own = await newcomer(this.name);
    const made = await Group.joinFromOutside('meeting', this.#own, groupInfo);
    this.#group = made.accepted();
    return made.commit;
  }

  async process(commit: string): Promise<boolean> {
    const next = await this.#group?.next(commit);
    if (next) this.#group = next;
    return next !== undefined;
  }

  async commit(added: string[], removed: number[]): Promise<[string, string, string]> {
    if (!this.#group) throw new Error('in no group');
    const packages = [];
    for (const text of added) {
      const [name] = text.split(' ', 1);
      const keyPackage = await readKeyPackage(text.slice((name ?? '').length + 1), name ?? '');
      if (!keyPackage) throw new Error('not taken for a key package');
      packages.push(keyPackage);
    }
    const made = await this.#group.commit(packages, removed);
    this.#group = made.accepted();
    return [made.commit, made.welcome ?? '', made.groupInfo];
  }

  async look(): Promise<string> {
    if (!this.#group) throw new Error('in no group');
    const { epoch, authenticator } = this.#group;
    return `${epoch} ${toHex(await this.#group.secret())} ${toHex(authenticator)}`;
  }
}

class Theirs implements Member {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  async packageOf(): Promise<string> {
    return fromPeer(await ask('package', this.name));
  }

  async join(welcome: string, groupInfo: string): Promise<void> {
    await ask('join', this.name, toPeer(welcome), toPeer(groupInfo));
  }

  async process(commit: string): Promise<boolean> {
    return (await ask('process', this.name, toPeer(commit))) === 'ok';
  }

  async commit(added: string[], removed: number[]): Promise<[string, string, string]> {
    const packages = added.map((text) => toPeer(text.slice(text.indexOf(' ') + 1)));
    const answer = await ask('commit', this.name, packages.join() || '-', removed.join() || '-');
    const [commit = '', welcome = '', groupInfo = ''] = answer.split(' ');
    return [fromPeer(commit), welcome === '-' ? '' : fromPeer(welcome), fromPeer(groupInfo)];
  }

  look(): Promise<string> {
    return ask('look', this.name);
  }
}

/** A small generator, so that a failure can be had again. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test.each([1, 2, 3])(
  'one group with openmls, over twenty additions and removals, seed %i',
  async (seed) => {
    const draw = random(seed);
    const watcher = new Ours(`ann-${seed}`);
    await watcher.begin();
    const members: Member[] = [watcher];
    for (let step = 0; step < STEPS; step += 1) {
      const grows = members.length < 3 || (members.length < MAX_MEMBERS && draw(2) === 0);
      const committer = members[draw(members.length)] ?? watcher;
      const others = members.filter((member) => member !== committer);
      if (grows) {
        const name = `${draw(2) === 0 ? 'ours' : 'theirs'}-${seed}-${step}`;
        const newcomer = name.startsWith('ours') ? new Ours(name) : new Theirs(name);
        const offered = `${name} ${await newcomer.packageOf()}`;
        const [commit, welcome, groupInfo] = await committer.commit([offered], []);
        for (const other of others) expect(await other.process(commit)).toBe(true);
        await newcomer.join(welcome, groupInfo);
        members.push(newcomer);
      } else {
        const leaver = others.filter((other) => other !== watcher)[draw(others.length - 1)];
        const index = leaver && watcher.indices.get(leaver.name);
        const isFound = leaver !== undefined && index !== undefined;
        const [commit] = await committer.commit([], isFound ? [index] : []);
        for (const other of others) expect(await other.process(commit)).toBe(other !== leaver);
        if (leaver) members.splice(members.indexOf(leaver), 1);
      }
      const expected = await watcher.look();
      for (const member of members) {
        expect(await member.look(), `${member.name}, step ${step}`).toBe(expected);
      }
    }
    const their = members.find((member) => member instanceof Theirs);
    if (!their) throw new Error('openmls is not in the group any more: take another seed');
    const [update, , groupInfo] = await their.commit([], []);
    for (const other of members) if (other !== their) await other.process(update);
    const zoe = new Ours(`zoe-${seed}`);
    const commit = await zoe.joinFromOutside(groupInfo);
    for (const member of members) {
      expect(await member.process(commit)).toBe(true);
      expect(await member.look()).toBe(await zoe.look());
    }
  },
);
