import type { MeetingError } from './errors';
import type { ListedParticipant } from './protocol';
import type { SignalingChannel } from './signaling';

/** A page of the server's. */
const PAGE = 100;

/** So many pages are read: more people than a room may have, and some more where people leave meanwhile. */
const MAX_PAGES = 50;

/** Who is looked at and not on stage is asked for anew after this long: nobody tells what they start and stop. */
const REFRESH_MS = 5_000;

/** Whose stream has ended may begin another, in another codec for example: that is asked for after this long. */
const AGAIN_MS = 500;

/** How long a question may wait for others. */
const GATHER_MS = 30;

/** What a directory works with. */
export interface DirectoryOptions {
  channel: SignalingChannel;
  /** Whose pictures are looked at, and not on stage. */
  lookedAt: () => readonly string[];
  listed: (participants: readonly ListedParticipant[]) => void;
}

/**
 * Who is in a room with a stage: everyone once, page by page, and then, every few seconds, those who are looked at. So it
 * costs a client the same in a room of fifty and of five hundred.
 */
export class Directory {
  readonly #options: DirectoryOptions;
  /** When somebody was asked for last. */
  #askedAt = new Map<string, number>();
  /** Of whom a stream has ended just now. */
  readonly #again = new Map<string, ReturnType<typeof setTimeout>>();
  #soon: ReturnType<typeof setTimeout> | undefined;
  #refresh: ReturnType<typeof setInterval> | undefined;

  constructor(options: DirectoryOptions) {
    this.#options = options;
  }

  /** The room has a stage. */
  start(): void {
    if (this.#refresh !== undefined) return;
    this.#refresh = setInterval(() => this.look(), REFRESH_MS);
    this.#readAll().catch((error) => console.info('opencall: not everyone is listed', error));
  }

  /** The room has none any more, or is left. */
  stop(): void {
    clearInterval(this.#refresh);
    clearTimeout(this.#soon);
    this.#refresh = undefined;
    this.#soon = undefined;
    this.#askedAt.clear();
    for (const timer of this.#again.values()) clearTimeout(timer);
    this.#again.clear();
  }

  /** Others may be looked at now. */
  look(): void {
    if (this.#refresh === undefined) return;
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      this.#ask().catch((error) => console.info('opencall: some are not received', error));
    }, GATHER_MS);
  }

  /** What somebody sent is gone. */
  again(participantId: string): void {
    if (this.#refresh === undefined || this.#again.has(participantId)) return;
    const timer = setTimeout(() => {
      this.#again.delete(participantId);
      this.#askedAt.delete(participantId);
      this.look();
    }, AGAIN_MS);
    this.#again.set(participantId, timer);
  }

  async #readAll(): Promise<void> {
    const run = this.#refresh;
    let after: string | undefined;
    for (let page = 0; page < MAX_PAGES; page += 1) {
      try {
        const { participants = [], next } = await this.#options.channel.request('getParticipants', {
          ...(after === undefined ? {} : { after }),
          limit: PAGE,
        });
        if (run !== this.#refresh) return;
        this.#options.listed(participants);
        if (!next) return;
        after = next;
      } catch (error) {
        const isRefused = (error as Partial<MeetingError> | undefined)?.code === 'request-refused';
        if (run !== this.#refresh || !isRefused || after === undefined) throw error;
        // Whoever was the last of a page has left, and nobody comes after them any more: once more from the beginning.
        after = undefined;
      }
    }
    throw new Error('too many came and went');
  }

  async #ask(): Promise<void> {
    const run = this.#refresh;
    const now = Date.now();
    const wanted = this.#options.lookedAt().slice(0, PAGE);
    const before = this.#askedAt;
    const isDue = (id: string) => now - (before.get(id) ?? 0) >= REFRESH_MS - GATHER_MS;
    const due = wanted.filter(isDue);
    this.#askedAt = new Map(wanted.map((id) => [id, isDue(id) ? now : (before.get(id) ?? 0)]));
    if (due.length === 0) return;
    const { participants = [] } = await this.#options.channel.request('getParticipants', {
      participantIds: due,
    });
    if (run === this.#refresh) this.#options.listed(participants);
  }
}
