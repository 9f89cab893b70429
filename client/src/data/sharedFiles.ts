import { MeetingError } from '../sdk/errors';
import type { FileMessage } from './conversation';
import type { FileDesk } from './files/desk';
import type { FileHost, SharedFile } from './files/types';
import type { FileOffer } from './wire';

const NONE: readonly never[] = [];

/** The files of a meeting. What handles them is loaded with the first one. */
export class SharedFiles {
  readonly #host: FileHost;
  #loading: Promise<FileDesk> | undefined;
  #desk: FileDesk | undefined;
  /** Grows with each end of the meeting. */
  #life = 0;

  constructor(host: FileHost) {
    this.#host = host;
  }

  get list(): readonly SharedFile[] {
    return this.#desk?.list ?? NONE;
  }

  get offers(): readonly FileOffer[] {
    return this.#desk?.offers ?? NONE;
  }

  async send(file: Blob, name: string): Promise<string> {
    const life = this.#life;
    const desk = await this.#load();
    if (life !== this.#life) throw new MeetingError('server-gone', 'The meeting was left.');
    return desk.send(file, name);
  }

  async accept(id: string): Promise<void> {
    (await this.#load()).accept(id);
  }

  async cancel(id: string): Promise<void> {
    await (await this.#load()).cancel(id);
  }

  offered(participantId: string, offers: readonly FileOffer[]): void {
    // Most never offer anything.
    if (offers.length === 0 && !this.#loading) return;
    const life = this.#life;
    this.#load()
      .then((desk) => {
        if (life === this.#life) desk.offered(participantId, offers);
      })
      .catch((error) => console.warn('opencall: files cannot be shown', error));
  }

  received(participantId: string, message: FileMessage): void {
    this.#desk?.received(participantId, message);
  }

  channelFound(participantId: string, file: string): void {
    this.#desk?.channelFound(participantId, file);
  }

  participantLeft(participantId: string): void {
    if (this.#desk) return this.#desk.participantLeft(participantId);
    // What they offered before is shown first.
    this.#loading?.then((desk) => desk.participantLeft(participantId)).catch(() => undefined);
  }

  lost(): void {
    this.#desk?.lost();
  }

  connected(): void {
    this.#desk?.connected();
  }

  stop(): void {
    this.#life += 1;
    this.#desk?.stop();
  }

  #load(): Promise<FileDesk> {
    this.#loading ??= this.#fetch().catch((error) => {
      // A network that was away for a moment need not be for good.
      this.#loading = undefined;
      throw error;
    });
    return this.#loading;
  }

  async #fetch(): Promise<FileDesk> {
    const { FileDesk } = await import('./files/desk');
    this.#desk = new FileDesk(this.#host);
    return this.#desk;
  }
}
