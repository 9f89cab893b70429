import { MeetingError } from '../sdk/errors';
import { randomId } from '../sdk/randomId';
import { Timers } from '../timers';
import { HeardStream, type Said } from './heardStream';
import { RateLimit } from './rate';
import { type Entry, sizeOf, Tail } from './tail';
import {
  type Content,
  encodeMessage,
  type FileOffer,
  isChat,
  isEmoji,
  MAX_AGE_MS,
  MAX_CHAT_LENGTH,
  MAX_CONTENT_BYTES,
  parseMessage,
  type RoomMessage,
} from './wire';

/** Something that someone said to all. */
export interface ChatMessage {
  /** Of this message, in this meeting. */
  readonly id: string;
  /** The participant. */
  readonly from: string;
  /** What they were called when it came. */
  readonly name: string;
  readonly text: string;
  /** Unix time, milliseconds, by their clock, but not in the future. */
  readonly sentAt: number;
  readonly mine: boolean;
}

/** A picture that someone shows for a moment. */
export interface Reaction {
  readonly emoji: string;
  /** Unix time, milliseconds. */
  readonly at: number;
}

/** A message of another participant's application, as JSON says it. */
export interface Message {
  participantId: string;
  message: unknown;
}

/** What a conversation needs of its owner. */
export interface ConversationHost {
  readonly participantId: string;
  /** Resolves when messages can be sent; rejects with words if they may not, or cannot. */
  ready(): Promise<void>;
  /** Sends to everyone, in the order of the calls; rejects if that cannot be. */
  send(message: Uint8Array<ArrayBuffer>): Promise<void>;
  /** There is a session, or there will be one again without being asked. */
  isGoingOn(): boolean;
  isConnected(): boolean;
  nameOf(participantId: string): string;
  showHand(participantId: string, raisedAt: number | undefined): void;
  showReaction(participantId: string, reaction: Reaction | undefined): void;
  /** There is one more. */
  chatChanged(added: ChatMessage): void;
  appReceived(message: Message): void;
  /** What is offered here; it is told to everyone with all else that holds. */
  offers(): readonly FileOffer[];
  /** What a participant offers now. */
  filesOffered(participantId: string, offers: readonly FileOffer[]): void;
  fileMessageReceived(participantId: string, message: FileMessage): void;
}

/** What is said about a file that someone offers. */
export type FileMessage = Extract<RoomMessage, { kind: 'want' | 'stop' }>;

/** Messages shown: more is scrolled to by nobody, and a page of a day stays small. */
const MAX_CHAT = 500;

/** How long a reaction is shown. */
const REACTION_MS = 5_000;

/**
 * Who has just come, or finds that someone begins to talk, takes some round trips to make a channel for it; what is sent
 * meanwhile it misses. It is sent again after so long.
 */
const RETELL_AFTER_MS = [300, 1_000, 3_000];

/** What was said before that, within this time, is sent again with it. */
const RECENT_MS = 5_000;

/** Whoever has a raised hand or offers a file, or spoke in the last minute, says so again: nobody misses it for longer. */
const RETELL_EVERY_MS = 20_000;
const TALKED_MS = 60_000;

/** A lost connection is noticed late: what was sent within this time before it may be lost as well. */
const LOST_MS = 15_000;

/** Entries that are sent again at once. */
const MAX_AGAIN = 50;

/** Who misses something waits for someone else to ask, for that is answered to all; then asks, so many times. */
const ASK_AFTER_MS = 300;
const ASK_SPREAD_MS = 700;
const MAX_ASKS = 4;

/** Whoever has left may be back with another session; until then what came after a gap is not shown. */
const GONE_MS = 30_000;

/** At most so often what was asked for is sent again. */
const ANSWER_EVERY_MS = 500;

/** Participants whose streams are remembered, also after they have left. */
const MAX_STREAMS = 1_000;

/** What one participant may cause here: a burst is what is sent again at once. */
const RATES = {
  state: { burst: 30, perSecond: 2 },
  entry: { burst: 500, perSecond: 200 },
  react: { burst: 10, perSecond: 2 },
  ask: { burst: 10, perSecond: 1 },
  want: { burst: 100, perSecond: 20 },
  stop: { burst: 50, perSecond: 2 },
};

/** Why a message was dropped. */
export type MessageDrop = 'malformed' | 'too-many' | 'not-opened';

interface Talker {
  stream: HeardStream | undefined;
  readonly rates: RateLimit<keyof typeof RATES>;
  /** Nothing was said before this end could hear it. */
  isHeardFromTheStart: boolean;
  /** Times that the same entry was asked for. */
  asks: number;
  askedFor: number | undefined;
  asking: ReturnType<typeof setTimeout> | undefined;
  /** Gives up what is missed of who is gone, unless something of theirs comes before. */
  leaving: ReturnType<typeof setTimeout> | undefined;
}

/**
 * Chat, raised hands, reactions and messages of applications. It outlives sessions: what is said in them is one stream of
 * entries for each participant, numbered, of which what is missed is asked for again.
 */
export class Conversation {
  readonly #host: ConversationHost;
  readonly #stream = randomId();
  readonly #tail = new Tail();
  readonly #talkers = new Map<string, Talker>();
  readonly #timers = new Timers();
  readonly #reactions = new Map<string, ReturnType<typeof setTimeout>>();
  readonly #dropped: Record<MessageDrop, number> = {
    malformed: 0,
    'too-many': 0,
    'not-opened': 0,
  };
  #chat: readonly ChatMessage[] = [];
  #handRaisedAt: number | undefined;
  #lostAt: number | undefined;
  /** What was said from then on is sent again, for the session in which it was is lost. */
  #againSince = Number.POSITIVE_INFINITY;
  #answeredAt = Number.NEGATIVE_INFINITY;
  #answering: number | undefined;
  #hasTold = false;
  #every: ReturnType<typeof setInterval> | undefined;

  constructor(host: ConversationHost) {
    this.#host = host;
  }

  /** Oldest first; a new array after each change. */
  get chat(): readonly ChatMessage[] {
    return this.#chat;
  }

  /** Messages of others that were dropped so far, by reason. */
  get dropped(): Readonly<Record<MessageDrop, number>> {
    return { ...this.#dropped };
  }

  /** Says something to all. While the connection is away it waits. */
  async sendChat(text: string): Promise<void> {
    if (!isChat(text)) {
      const words =
        text === '' ? 'There is nothing to send.' : `At most ${MAX_CHAT_LENGTH} characters fit.`;
      throw new MeetingError('request-refused', words);
    }
    await this.#post({ chat: text });
  }

  /** Sends anything that JSON can say to the others' applications. */
  async sendApp(message: unknown): Promise<void> {
    await this.#post({ app: message ?? null });
  }

  /** Raises one's hand, or takes it down. */
  async raiseHand(isRaised: boolean): Promise<void> {
    const before = this.#handRaisedAt;
    if ((before !== undefined) === isRaised) return;
    this.#showOwnHand(isRaised ? Date.now() : undefined);
    try {
      if (!this.#host.isGoingOn()) throw notConnected();
      if (this.#host.isConnected()) await this.#tellState();
    } catch (error) {
      // Of a connection that is lost meanwhile it is sent on the next.
      if (!this.#host.isConnected() && this.#host.isGoingOn()) return;
      this.#showOwnHand(before);
      throw error;
    }
  }

  /** Shows an emoji for a moment. */
  async react(emoji: string): Promise<void> {
    if (!isEmoji(emoji)) throw new MeetingError('request-refused', 'A reaction is one emoji.');
    if (!this.#host.isConnected()) throw notConnected();
    await this.#send({ kind: 'react', emoji });
    this.#showReaction(this.#host.participantId, emoji);
  }

  /** Tells everyone what holds now: what is offered has changed. */
  async tellState(): Promise<void> {
    await this.#tellState();
  }

  /** Says something about a file that someone offers. */
  sendAboutFile(message: FileMessage): Promise<void> {
    return this.#send(message);
  }

  /** A message of a participant came. */
  receive(participantId: string, bytes: Uint8Array): void {
    const message = parseMessage(bytes);
    if (!message) return this.drop('malformed');
    const talker = this.#talker(participantId);
    if (!talker.rates.take(message.kind, Date.now())) return this.drop('too-many');
    switch (message.kind) {
      case 'entry':
        this.#heard(participantId, this.#streamOf(talker, message, message.seq).take(message));
        return this.#askLater(participantId, talker);
      case 'state':
        return this.#stateReceived(participantId, talker, message);
      case 'react':
        return this.#showReaction(participantId, message.emoji);
      case 'ask':
        return this.#asked(message);
      case 'want':
      case 'stop':
        return this.#host.fileMessageReceived(participantId, message);
    }
  }

  drop(reason: MessageDrop): void {
    this.#dropped[reason] += 1;
  }

  /** Someone has begun to send messages; `isNew`: while this end was there to hear of it. */
  talkerFound(participantId: string, isNew: boolean): void {
    const talker = this.#talker(participantId);
    this.#stopAsking(talker);
    if (isNew) talker.isHeardFromTheStart = true;
  }

  /** This end's own channel is open. */
  talkingBegan(): void {
    this.#hasTold = true;
    this.#retellSoon(RETELL_AFTER_MS, Math.min(Date.now() - RECENT_MS, this.#againSince));
    this.#againSince = Number.POSITIVE_INFINITY;
    this.#every ??= setInterval(() => this.#retellIfUseful(), RETELL_EVERY_MS);
  }

  participantJoined(): void {
    if (this.#hasTold) this.#retellSoon(RETELL_AFTER_MS.slice(1), Date.now() - RECENT_MS);
  }

  /** What is known of a participant's stream is kept: who comes back goes on with it. */
  participantLeft(participantId: string): void {
    const talker = this.#talkers.get(participantId);
    clearTimeout(this.#reactions.get(participantId));
    this.#reactions.delete(participantId);
    if (!talker) return;
    this.#stopAsking(talker);
    talker.isHeardFromTheStart = false;
    this.#awaitReturn(participantId, talker);
  }

  /** Nobody to ask, unless they come back. */
  #awaitReturn(participantId: string, talker: Talker): void {
    if (talker.stream?.missing === undefined) return;
    this.#timers.cancel(talker.leaving);
    talker.leaving = this.#timers.after(GONE_MS, () => this.#giveUp(participantId, talker));
  }

  /** The session is lost, and with it what was on its way. */
  lost(): void {
    this.#lostAt ??= Date.now();
    this.#stopTimers();
  }

  /** There is a session, the first or another one. */
  connected(): void {
    if (this.#lostAt !== undefined) this.#againSince = this.#lostAt - LOST_MS;
    this.#lostAt = undefined;
    // Who has left meanwhile nobody tells.
    for (const [id, talker] of this.#talkers) this.#awaitReturn(id, talker);
    if (this.#holds || this.#tail.next > 0) void this.#retell(this.#againSince);
  }

  /** The meeting is over. */
  stop(): void {
    this.#stopTimers();
    for (const timer of this.#reactions.values()) clearTimeout(timer);
    this.#reactions.clear();
    this.#talkers.clear();
    this.#lostAt = undefined;
    this.#hasTold = false;
    this.#handRaisedAt = undefined;
    this.#host.showHand(this.#host.participantId, undefined);
    this.#host.showReaction(this.#host.participantId, undefined);
  }

  async #post(content: Content): Promise<void> {
    if (!this.#host.isGoingOn()) throw notConnected();
    if (sizeOf(content) > MAX_CONTENT_BYTES) {
      throw new MeetingError('request-refused', 'The message is too long, and was not sent.');
    }
    if (this.#host.isConnected()) {
      await this.#host.ready().catch((error) => {
        // Of a connection that is lost meanwhile it is sent on the next.
        if (this.#host.isConnected() || !this.#host.isGoingOn()) throw error;
      });
    }
    const entry = this.#tail.append(content, Date.now());
    this.#show(this.#host.participantId, entry);
    if (!this.#host.isConnected()) return;
    await this.#sendEntry(entry).catch((error) => {
      console.info('opencall: a message is sent again later', error);
    });
  }

  #show(from: string, { seq, sentAt, content }: Said, stream = this.#stream): void {
    if (!('chat' in content)) return;
    const message = {
      id: `${from}/${stream}/${seq}`,
      from,
      name: this.#host.nameOf(from),
      text: content.chat,
      sentAt: Math.min(sentAt, Date.now()),
      mine: from === this.#host.participantId,
    };
    this.#chat = [...this.#chat, message].slice(-MAX_CHAT);
    this.#host.chatChanged(message);
  }

  #heard(participantId: string, said: readonly Said[]): void {
    const stream = this.#talkers.get(participantId)?.stream?.id;
    for (const one of said) {
      if ('chat' in one.content) this.#show(participantId, one, stream);
      else this.#host.appReceived({ participantId, message: one.content.app });
    }
  }

  #stateReceived(
    participantId: string,
    talker: Talker,
    state: Extract<RoomMessage, { kind: 'state' }>,
  ): void {
    const stream = this.#streamOf(talker, state, state.next);
    this.#heard(participantId, stream.note(state.first, state.next));
    this.#askLater(participantId, talker);
    const { handAgeMs } = state;
    this.#host.showHand(
      participantId,
      handAgeMs === undefined ? undefined : Date.now() - handAgeMs,
    );
    this.#host.filesOffered(participantId, state.files ?? []);
  }

  /** A participant's stream; another than before if the participant is another life of itself. */
  #streamOf(talker: Talker, { stream }: { stream: string }, begin: number): HeardStream {
    if (talker.stream?.id === stream) return talker.stream;
    this.#stopAsking(talker);
    // What was said before this end came is not this end's to hear.
    talker.stream = new HeardStream(stream, talker.isHeardFromTheStart ? 0 : begin);
    return talker.stream;
  }

  #askLater(participantId: string, talker: Talker): void {
    this.#timers.cancel(talker.leaving);
    talker.leaving = undefined;
    const from = talker.stream?.missing;
    if (from === undefined) return this.#stopAsking(talker);
    if (talker.asking) return;
    const delayMs = (ASK_AFTER_MS + Math.random() * ASK_SPREAD_MS) * 2 ** talker.asks;
    talker.asking = this.#timers.after(delayMs, () => {
      talker.asking = undefined;
      const { stream } = talker;
      if (stream?.missing === undefined) return;
      if (talker.askedFor !== stream.missing) talker.asks = 0;
      talker.askedFor = stream.missing;
      talker.asks += 1;
      if (talker.asks > MAX_ASKS) return this.#giveUp(participantId, talker);
      const ask = { to: participantId, stream: stream.id, from: stream.missing };
      if (this.#host.isConnected()) this.#send({ kind: 'ask', ...ask }).catch(() => undefined);
      this.#askLater(participantId, talker);
    });
  }

  /** What is missed does not come. */
  #giveUp(participantId: string, talker: Talker): void {
    this.#stopAsking(talker);
    if (talker.stream) this.#heard(participantId, talker.stream.giveUp());
  }

  #stopAsking(talker: Talker): void {
    for (const timer of [talker.asking, talker.leaving]) this.#timers.cancel(timer);
    talker.asking = undefined;
    talker.leaving = undefined;
    talker.asks = 0;
    talker.askedFor = undefined;
  }

  /** Someone misses what someone said. */
  #asked({ to, stream, from }: Extract<RoomMessage, { kind: 'ask' }>): void {
    if (to !== this.#host.participantId) {
      // The answer comes here as well.
      const talker = this.#talkers.get(to);
      const missing = talker?.stream?.id === stream ? talker.stream.missing : undefined;
      if (!talker?.asking || missing === undefined || from > missing) return;
      this.#timers.cancel(talker.asking);
      talker.asking = undefined;
      return this.#askLater(to, talker);
    }
    if (stream !== this.#stream) return;
    const isDue = this.#answering === undefined;
    this.#answering = Math.min(this.#answering ?? from, from);
    if (!isDue) return;
    const waitMs = Math.max(0, this.#answeredAt + ANSWER_EVERY_MS - Date.now());
    this.#timers.after(waitMs, () => {
      const first = this.#answering ?? this.#tail.next;
      this.#answering = undefined;
      this.#answeredAt = Date.now();
      void this.#retellEntries(this.#tail.from(first, MAX_AGAIN));
    });
  }

  /** Whether there is anything to tell besides what was said. */
  get #holds(): boolean {
    return this.#handRaisedAt !== undefined || this.#host.offers().length > 0;
  }

  #retellSoon(delaysMs: readonly number[], since: number): void {
    for (const delayMs of delaysMs) this.#timers.after(delayMs, () => void this.#retell(since));
  }

  #retellIfUseful(): void {
    const hasTalked = this.#tail.since(Date.now() - TALKED_MS).length > 0;
    if (hasTalked || this.#holds) void this.#retell(Number.POSITIVE_INFINITY);
  }

  async #retell(since: number): Promise<void> {
    await this.#retellEntries(this.#tail.since(since).slice(-MAX_AGAIN));
  }

  /** Sends what holds now, and entries again. What cannot be sent is asked for another time. */
  async #retellEntries(entries: readonly Entry[]): Promise<void> {
    if (!this.#host.isConnected()) return;
    try {
      for (const entry of entries) await this.#sendEntry(entry);
      await this.#tellState();
    } catch (error) {
      console.info('opencall: messages could not be sent again', error);
    }
  }

  #tellState(): Promise<void> {
    const { first, next } = this.#tail;
    const ageMs = Math.max(0, Date.now() - (this.#handRaisedAt ?? 0));
    const handAgeMs = this.#handRaisedAt === undefined ? undefined : Math.min(ageMs, MAX_AGE_MS);
    const offers = this.#host.offers();
    const files = offers.length > 0 ? offers : undefined;
    return this.#send({ kind: 'state', stream: this.#stream, first, next, handAgeMs, files });
  }

  #sendEntry({ seq, sentAt, content }: Entry): Promise<void> {
    return this.#send({ kind: 'entry', stream: this.#stream, seq, sentAt, content });
  }

  #send(message: RoomMessage): Promise<void> {
    return this.#host.send(encodeMessage(message));
  }

  #showOwnHand(raisedAt: number | undefined): void {
    this.#handRaisedAt = raisedAt;
    this.#host.showHand(this.#host.participantId, raisedAt);
  }

  #showReaction(participantId: string, emoji: string): void {
    this.#host.showReaction(participantId, { emoji, at: Date.now() });
    clearTimeout(this.#reactions.get(participantId));
    const timer = setTimeout(() => {
      this.#reactions.delete(participantId);
      this.#host.showReaction(participantId, undefined);
    }, REACTION_MS);
    this.#reactions.set(participantId, timer);
  }

  #talker(participantId: string): Talker {
    const known = this.#talkers.get(participantId) ?? {
      stream: undefined,
      rates: new RateLimit(RATES),
      isHeardFromTheStart: false,
      asks: 0,
      askedFor: undefined,
      asking: undefined,
      leaving: undefined,
    };
    // The one that was heard least recently is forgotten first.
    this.#talkers.delete(participantId);
    this.#talkers.set(participantId, known);
    const [oldest] = this.#talkers.keys();
    if (this.#talkers.size > MAX_STREAMS && oldest !== undefined) this.#talkers.delete(oldest);
    return known;
  }

  #stopTimers(): void {
    this.#timers.clear();
    for (const talker of this.#talkers.values()) this.#stopAsking(talker);
    clearInterval(this.#every);
    this.#every = undefined;
    this.#answering = undefined;
  }
}

function notConnected(): MeetingError {
  return new MeetingError('server-gone', 'Not connected to the meeting.');
}
