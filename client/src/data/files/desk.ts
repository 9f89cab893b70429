import { MeetingError } from '../../sdk/errors';
import { randomId } from '../../sdk/randomId';
import {
  type FileOffer,
  MAX_FILE_BYTES,
  MAX_FILE_NAME_LENGTH,
  MAX_FILE_TYPE_LENGTH,
  MAX_OFFERS,
  type RoomMessage,
} from '../wire';
import { hashFile } from './hash';
import { IncomingFile } from './incoming';
import { OutgoingFile } from './outgoing';
import type { FileHost, SharedFile } from './types';

/** Files shown: more are offered by nobody who means well. Those that are over go first. */
const MAX_FILES = 200;

const TICK_MS = 1_000;

/** Progress is shown so often. */
const SHOW_EVERY_MS = 150;

/** All files of a meeting: those that are offered here, and those of the others. It outlives sessions. */
export class FileDesk {
  readonly #host: FileHost;
  readonly #outgoing = new Map<string, OutgoingFile>();
  readonly #incoming = new Map<string, IncomingFile>();
  readonly #ofFiles: FileHost;
  /** Of what is still read to be offered. */
  #reading = new AbortController();
  #list: readonly SharedFile[] = [];
  #ticking: ReturnType<typeof setInterval> | undefined;
  #showing: ReturnType<typeof setTimeout> | undefined;

  constructor(host: FileHost) {
    this.#host = host;
    this.#ofFiles = { ...host, changed: () => this.#changed() };
  }

  /** In the order in which they were offered; a new array after each change. */
  get list(): readonly SharedFile[] {
    return this.#list;
  }

  /** What is told to the others. */
  get offers(): readonly FileOffer[] {
    return [...this.#outgoing.values()].filter((one) => one.isOffered).map(({ offer }) => offer);
  }

  /** Offers a file to everyone; its id. It is read once before, for its hash. */
  async send(file: Blob, name: string): Promise<string> {
    if (file.size > MAX_FILE_BYTES) throw refused('The file is larger than 4 GiB.');
    const check = () => {
      if (this.offers.length >= MAX_OFFERS) {
        throw refused(`At most ${MAX_OFFERS} files are offered at a time. Withdraw one of them.`);
      }
    };
    check();
    const { signal } = this.#reading;
    const hash = await hashFile(file, signal).catch((cause) => {
      if (signal.aborted) throw left();
      throw new MeetingError('request-refused', 'The file cannot be read.', { cause });
    });
    if (signal.aborted) throw left();
    check();
    const offer = {
      file: randomId(),
      name: cleanName(name),
      size: file.size,
      type: file.type.slice(0, MAX_FILE_TYPE_LENGTH),
      hash,
    };
    const id = idOf(this.#host.participantId, offer.file);
    makeRoom(this.#outgoing, (own) => !own.isOffered);
    this.#outgoing.set(id, new OutgoingFile(offer, file, this.#ofFiles));
    this.#show();
    try {
      if (this.#host.isConnected()) await this.#host.tellOffers();
    } catch (error) {
      // Of a connection that is lost meanwhile it is told on the next.
      if (this.#host.isConnected()) {
        this.#outgoing.delete(id);
        this.#show();
        throw error;
      }
    }
    return id;
  }

  /** Takes a file that someone offers. */
  accept(id: string): void {
    const isOffered = this.#incoming.get(id)?.accept(Date.now());
    if (!isOffered) throw refused('This file is not offered any more.');
    this.#tick();
    this.#show();
  }

  /** Withdraws a file of one's own, gives up one of another, or forgets one that is done. */
  async cancel(id: string): Promise<void> {
    this.#incoming.get(id)?.cancel();
    const own = this.#outgoing.get(id);
    own?.cancel();
    this.#show();
    if (own && this.#host.isConnected()) await this.#host.tellOffers();
  }

  /** What a participant offers now. */
  offered(from: string, offers: readonly FileOffer[]): void {
    const offered = new Set(offers.map(({ file }) => idOf(from, file)));
    for (const [id, file] of this.#incoming) {
      if (file.from !== from) continue;
      if (offered.has(id)) file.present();
      else file.withdrawn();
    }
    for (const offer of offers) {
      const id = idOf(from, offer.file);
      if (this.#incoming.has(id) || !makeRoom(this.#incoming, isOver)) continue;
      const clean = { ...offer, name: cleanName(offer.name) };
      this.#incoming.set(id, new IncomingFile(clean, from, this.#ofFiles));
    }
    this.#show();
  }

  /** A participant wants chunks of a file of one's own, or no more. */
  received(from: string, message: Extract<RoomMessage, { kind: 'want' | 'stop' }>): void {
    if (message.to !== this.#host.participantId) return;
    const file = this.#outgoing.get(idOf(message.to, message.file));
    if (message.kind === 'want') file?.want(from, message.ranges, Date.now());
    else file?.stop(from, message.done);
    this.#tick();
    this.#changed();
  }

  /** There is a channel with a file. */
  channelFound(from: string, file: string): void {
    this.#incoming.get(idOf(from, file))?.channelFound(Date.now());
  }

  participantLeft(participantId: string): void {
    for (const file of this.#outgoing.values()) file.participantLeft(participantId);
    for (const file of this.#incoming.values()) {
      if (file.from === participantId) file.participantLeft(Date.now());
    }
    this.#tick();
    this.#changed();
  }

  /** The session is lost. */
  lost(): void {
    for (const file of [...this.#outgoing.values(), ...this.#incoming.values()]) file.lost();
  }

  /** There is a session again. Who has left meanwhile nobody tells: all have, until they offer their files again. */
  connected(): void {
    const now = Date.now();
    for (const file of this.#incoming.values()) {
      file.participantLeft(now);
      file.channelFound(now);
    }
    if (this.#incoming.size > 0) this.#tick();
  }

  /** The meeting is over. What is done can still be saved. */
  stop(): void {
    this.#reading.abort();
    this.#reading = new AbortController();
    this.lost();
    clearInterval(this.#ticking);
    clearTimeout(this.#showing);
    this.#ticking = undefined;
    this.#showing = undefined;
    for (const file of this.#outgoing.values()) file.cancel();
    for (const file of this.#incoming.values()) file.withdrawn();
    this.#show();
  }

  /** Begins to look at what does not come, as long as anything should. */
  #tick(): void {
    this.#ticking ??= setInterval(() => {
      const now = Date.now();
      for (const file of this.#outgoing.values()) file.tick(now);
      for (const file of this.#incoming.values()) file.tick(now);
      this.#changed();
      const isBusy = this.#list.some(({ state }) => state === 'running' || state === 'paused');
      const waits = [...this.#incoming.values()].some((file) => file.isWaitingForOwner);
      if (isBusy || waits) return;
      clearInterval(this.#ticking);
      this.#ticking = undefined;
    }, TICK_MS);
  }

  #changed(): void {
    this.#showing ??= setTimeout(() => {
      this.#showing = undefined;
      this.#show();
    }, SHOW_EVERY_MS);
  }

  #show(): void {
    const before = new Map(this.#list.map((file) => [file.id, file]));
    const own = this.#host.participantId;
    const now = [
      ...[...this.#outgoing].map(([id, file]) => shown(id, own, file, true)),
      ...[...this.#incoming].map(([id, file]) => shown(id, file.from, file, false)),
    ];
    const order = [...before.keys()];
    const at = (id: string) => (before.has(id) ? order.indexOf(id) : order.length);
    const list = now
      .sort((a, b) => at(a.id) - at(b.id))
      .map((file) => {
        const known = before.get(file.id);
        return known && isSame(known, file) ? known : file;
      });
    if (list.length === this.#list.length && list.every((file, n) => file === this.#list[n])) {
      return;
    }
    this.#list = list;
    this.#host.changed();
  }
}

function shown(
  id: string,
  from: string,
  file: OutgoingFile | IncomingFile,
  mine: boolean,
): SharedFile {
  const { name, size, type } = file.offer;
  const url = file instanceof IncomingFile ? file.url : undefined;
  const { transferred, state } = file;
  return { id, from, name, size, type, transferred, state, mine, ...(url ? { url } : {}) };
}

function isSame(a: SharedFile, b: SharedFile): boolean {
  return a.state === b.state && a.transferred === b.transferred && a.url === b.url;
}

/** Forgets the oldest of those that are over, where there are many; whether there is room for another then. */
function makeRoom<F>(files: Map<string, F>, isOver: (file: F) => boolean): boolean {
  if (files.size < MAX_FILES) return true;
  for (const [id, file] of files) if (isOver(file)) return files.delete(id);
  return false;
}

function isOver({ state }: IncomingFile): boolean {
  return state === 'cancelled' || state === 'failed';
}

/** Whoever offers a file cannot take another's id with it. */
function idOf(from: string, file: string): string {
  return `${from}/${file}`;
}

/** Without what leads elsewhere, or shows it as another: paths, control letters, changes of direction. */
function cleanName(name: string): string {
  const clean = name.replace(UNSAFE_IN_NAMES, '_').slice(0, MAX_FILE_NAME_LENGTH);
  return clean.trim() === '' ? 'file' : clean;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is taken out
const UNSAFE_IN_NAMES = /[\u0000-\u001f\u007f-\u009f/\\:\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

function refused(words: string): MeetingError {
  return new MeetingError('request-refused', words);
}

function left(): MeetingError {
  return new MeetingError('server-gone', 'The meeting was left.');
}
