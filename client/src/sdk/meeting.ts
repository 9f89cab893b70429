import type { Device } from 'mediasoup-client';
import {
  type ChatMessage,
  Conversation,
  type Message,
  type MessageDrop,
} from '../data/conversation';
import type { DataLinks } from '../data/dataLinks';
import type { SharedFile } from '../data/files/types';
import { SharedFiles } from '../data/sharedFiles';
import type { EncryptionOptions, FrameCounts } from '../e2ee/index';
import { backoffDelayMs } from './backoff';
import type { Caption } from './captions';
import { Emitter } from './emitter';
import { asMeetingError, MeetingError, type MeetingErrorCode } from './errors';
import {
  Hosting,
  type HostingSnapshot,
  type Mutable,
  sourceName,
  type WaitingParticipant,
} from './hosting';
import {
  type DeviceStatus,
  type GivenTracks,
  LocalMedia,
  type LocalMediaHost,
  type LocalSource,
  type LocalTrack,
} from './localMedia';
import { type EncryptionSnapshot, MeetingEncryption } from './meetingEncryption';
import { type EncryptionState, type Participant, Roster, type Source } from './participants';
import type { CodecAdvice, ConnectionQuality, Layers, Requests } from './protocol';
import { randomId } from './randomId';
import type { RemoteTrack, Shown } from './receiver';
import { Reception } from './reception';
import { type HostRequest, Session, type SessionHandlers } from './session';
import { type SignalingChannel, WebSocketChannel } from './signaling';
import type { OnStage } from './slots';
import { readToken } from './token';

/** How to take part in a meeting. */
export interface MeetingOptions {
  /** The server, for example `wss://meet.example/ws`. */
  url: string;
  meetingId: string;
  displayName: string;
  /** Must be unique in the meeting; the token's, or drawn at random, if left out. */
  participantId?: string;
  /** A join token (JWT), where the server wants one. It must be for this meeting and participant. */
  token?: string;
  /** What to ask of the camera. */
  camera?: MediaTrackConstraints;
  /** What to ask of the microphone. */
  microphone?: MediaTrackConstraints;
  /** Video codec to send, for example `video/VP9`; otherwise what the server advises, else its first. */
  videoCodec?: string;
  /** Whether codecs, layers and rates are the server's advice; `false` sends what this package always sends. */
  followsAdvice?: boolean;
  /**
   * Whether each packet of the voice carries the one before once more (RED), against losses on the way to the server, for
   * twice the bits; otherwise as the server advises. Never with end-to-end encryption.
   */
  repeatsVoice?: boolean;
  /** End-to-end encryption: everything sent is encrypted, and what is not encrypted is not played. */
  encryption?: EncryptionOptions;
  /** Another way to the server than the OpenCall envelope over a WebSocket. */
  openChannel?: () => Promise<SignalingChannel>;
  /** Another WebRTC than this browser's. */
  makeDevice?: () => Promise<Device>;
}

/** Where a meeting stands. */
export type MeetingStatus =
  | 'idle'
  | 'joining'
  /** In front of a locked room, until a host lets this participant in. */
  | 'waiting'
  | 'joined'
  | 'reconnecting'
  | 'failed'
  | 'left';

/** All there is to show of a meeting; a new object after every change. */
export interface MeetingSnapshot extends HostingSnapshot {
  readonly status: MeetingStatus;
  readonly participants: readonly Participant[];
  /** Loudest first. */
  readonly speakers: readonly string[];
  /**
   * Who is on the stage of a large room, pictures first, in an order in which one takes another's place; empty in rooms
   * without. Others are received where `setReceiving` asks for them.
   */
  readonly stage: readonly OnStage[];
  readonly quality: ConnectionQuality;
  /** The server has not answered for some seconds; if it stays silent, the status changes. */
  readonly isUnstable: boolean;
  readonly devices: Readonly<Record<'camera' | 'microphone' | 'screen', DeviceStatus>>;
  readonly encryption: EncryptionSnapshot;
  /** What was said in writing since this end came, oldest first; the newest 500. */
  readonly chat: readonly ChatMessage[];
  /** What people offer to each other, or have offered, in the order in which they did. */
  readonly files: readonly SharedFile[];
  /** The last thing that went wrong and was not dismissed. */
  readonly error: MeetingError | null;
}

/** What a meeting tells. */
export interface MeetingEvents {
  /** The snapshot changed. */
  change: MeetingSnapshot;
  statusChanged: MeetingStatus;
  trackAdded: RemoteTrack;
  message: Message;
  /** Something was said in writing, here or by others. */
  chat: ChatMessage;
  /** How far someone's media are encrypted, after each change. */
  encryptionChanged: { participantId: string; state: EncryptionState | undefined };
  /** A host or an administrator muted something of this participant, or lets it be heard and seen again. */
  mutedByHost: { source: Source; muted: boolean; by: string | undefined };
  /** The server advises other codecs, layers or rates; what is sent follows by itself. */
  codecAdvice: CodecAdvice;
  /** The server will record the meeting in so many milliseconds, or records it no more. */
  recordingChanged: { recording: boolean; startsInMs?: number; reason?: string };
  /** Voices will go to a program outside in so many milliseconds, or go there no more. */
  tapChanged: { tapped: boolean; startsInMs?: number; reason?: string };
  /** Someone will be broadcast in so many milliseconds, or is no more. */
  pushChanged: { pushed: boolean; startsInMs?: number; reason?: string };
  /** One of the captions of the snapshot is new, or has changed. */
  captions: readonly Caption[];
  /** To hosts: someone new waits to be let in. */
  participantWaiting: WaitingParticipant;
  error: MeetingError;
}

/**
 * What trying again does not mend: a token that was refused, because it has expired for example, is refused for good, and
 * a browser does not learn to encrypt.
 */
const HOPELESS: readonly MeetingErrorCode[] = [
  'token-refused',
  'encryption-unsupported',
  'sent-away',
];

/** A connection that was lost is mostly back before anyone would read of it. */
const BANNER_AFTER_MS = 5_000;

/** Who has not come back so long after this participant has, has left. */
const GONE_MS = 90_000;

/** A meeting, from this participant's side. It outlives lost connections and restarted servers. */
export class Meeting {
  readonly participantId: string;
  readonly #options: MeetingOptions;
  readonly #emitter = new Emitter<MeetingEvents>();
  readonly #roster = new Roster();
  readonly #local: LocalMedia;
  readonly #reception = new Reception();
  readonly #encryption: MeetingEncryption;
  readonly #conversation: Conversation;
  readonly #files: SharedFiles;
  readonly #hosting = new Hosting();
  #displayName: string;
  /** Of a session that is not entered yet, which may take long in front of a locked room. */
  #entering: SignalingChannel | undefined;
  #session: Session | undefined;
  #status: MeetingStatus = 'idle';
  #speakers: readonly string[] = [];
  #stage: readonly OnStage[] = [];
  #quality: ConnectionQuality = 'excellent';
  #isUnstable = false;
  #error: MeetingError | null = null;
  /** Of a session that this end has given up and the server may not: it must not keep the next one out. */
  #givenUp: string | undefined;
  #banner: ReturnType<typeof setTimeout> | undefined;
  /** Who was there when a session was lost, and is not known to have left. */
  readonly #awaited = new Set<string>();
  #awaiting: ReturnType<typeof setTimeout> | undefined;
  #snapshot: MeetingSnapshot;
  /** It was inside before, and may have missed something since. */
  #hasEntered = false;
  /** Grows whenever the user joins or leaves, so that late answers of an older life are ignored. */
  #life = 0;
  #joining: Promise<void> | undefined;
  /** The life that ended with its encryption, and why. */
  #died: { life: number; reason: MeetingError } | undefined;

  constructor(options: MeetingOptions) {
    this.#options = options;
    const identity = options.token ? readToken(options.token).identity : undefined;
    this.participantId = options.participantId ?? identity ?? randomId();
    this.#displayName = options.displayName;
    this.#roster.upsert(this.participantId, { displayName: options.displayName, isLocal: true });
    this.#local = new LocalMedia(options, this.#localHost());
    this.#encryption = new MeetingEncryption(
      options.encryption,
      { meetingId: options.meetingId, participantId: this.participantId },
      { changed: () => this.#showOwnEncryption(), died: (error) => this.#encryptionDied(error) },
    );
    this.#roster.setEncryption(this.participantId, this.#encryption.ownState);
    this.#files = this.#makeFiles();
    this.#conversation = this.#makeConversation();
    this.#snapshot = this.#takeSnapshot();
  }

  /** The present state. */
  get snapshot(): MeetingSnapshot {
    return this.#snapshot;
  }

  /** Listens; call the returned function to stop. */
  on<Name extends keyof MeetingEvents>(
    name: Name,
    listener: (value: MeetingEvents[Name]) => void,
  ): () => void {
    return this.#emitter.on(name, listener);
  }

  /**
   * Enters the meeting. Afterwards lost connections are made anew without being asked. Whoever asks while it is being entered
   * waits for the same; `leave` ends that without an error.
   */
  async join(): Promise<void> {
    if (this.#status === 'joining' || this.#status === 'waiting') return this.#joining;
    if (this.#status === 'joined' || this.#status === 'reconnecting') return;
    this.#joining = this.#join();
    return this.#joining;
  }

  async #join(): Promise<void> {
    this.#life += 1;
    this.#error = null;
    this.#local.reopen();
    this.#setStatus('joining');
    const life = this.#life;
    try {
      await this.#enter(life);
    } catch (error) {
      if (life === this.#life) {
        this.#setStatus('failed');
        throw this.#report(error);
      }
    }
    // Whoever leaves meanwhile knows; that nothing could be encrypted any more nobody does.
    if (this.#died?.life === life) throw this.#died.reason;
  }

  /** Leaves, and gives devices back. */
  leave(): void {
    if (this.#status === 'left') return;
    this.#life += 1;
    clearTimeout(this.#banner);
    this.#entering?.close();
    this.#session?.close();
    this.#session = undefined;
    this.#local.stopAll();
    this.#reception.clear();
    this.#files.stop();
    this.#conversation.stop();
    clearTimeout(this.#awaiting);
    this.#awaited.clear();
    this.#hasEntered = false;
    this.#hosting.left();
    this.#forgetRemote();
    this.#encryption.stop();
    this.#setStatus('left');
  }

  /**
   * Starts a device and sends it to the others, with a track that is given or a new one. A screen comes with its sound
   * where the browser has it. Rejects with words for the user if it cannot.
   */
  enable(source: LocalSource, given: GivenTracks = {}): Promise<void> {
    return this.#local.enable(source, given);
  }

  /** Starts camera and microphone with one question to the user; each goes on without the other. */
  enableBoth(): Promise<void> {
    return this.#local.enableBoth();
  }

  /** Takes another camera or microphone, by its `deviceId`; the others see no end of the one before. */
  switchDevice(device: 'camera' | 'microphone', deviceId: string): Promise<void> {
    return this.#local.use(device, deviceId);
  }

  /** Stops a device; the others see it go. */
  async disable(source: LocalSource): Promise<void> {
    await this.#local.disable(source);
    this.#changed();
  }

  /** Keeps the microphone open but sends nothing. */
  mute(): Promise<void> {
    return this.#local.pause('microphone');
  }

  /** Opens the microphone, starting it if need be. */
  unmute(): Promise<void> {
    return this.enable('microphone');
  }

  /** Has the others see another name. */
  async setDisplayName(displayName: string): Promise<void> {
    const before = this.#displayName;
    if (displayName === before) return;
    const show = (name: string) => {
      this.#displayName = name;
      this.#roster.upsert(this.participantId, { displayName: name });
      this.#changed();
    };
    show(displayName);
    try {
      await this.#ask((session) => session.rename(displayName));
    } catch (error) {
      const isRefused = error instanceof MeetingError && error.code === 'request-refused';
      if (isRefused && this.#displayName === displayName) show(before);
      throw error;
    }
  }

  /**
   * Says something to all, in writing. Everyone has it once and in this order; while the connection is made anew it waits.
   * Rejects with words if it cannot be sent.
   */
  sendChat(text: string): Promise<void> {
    return this.#conversation.sendChat(text);
  }

  /** Raises one's hand, or takes it down; everyone sees it, also who comes later. */
  raiseHand(isRaised: boolean): Promise<void> {
    return this.#conversation.raiseHand(isRaised);
  }

  /** Shows one emoji to everyone for five seconds. */
  react(emoji: string): Promise<void> {
    return this.#conversation.react(emoji);
  }

  /** Sends anything that JSON can say to everyone else in the meeting, 16 KiB at most; they hear `message`. */
  send(message: unknown): Promise<void> {
    return this.#conversation.sendApp(message);
  }

  /**
   * Offers a file to everyone, of at most 4 GiB; its id in `snapshot.files`. Whoever accepts it gets it from here, also
   * over lost connections, as long as this end stays. Rejects with words if it cannot be offered.
   */
  async sendFile(file: File | Blob, name?: string): Promise<string> {
    if (this.#status !== 'joined' && this.#status !== 'reconnecting') throw notConnected();
    const life = this.#life;
    await this.#session?.data?.ready();
    if (life !== this.#life) throw notConnected();
    return this.#files.send(file, name ?? (file instanceof File ? file.name : 'file'));
  }

  /** Takes a file that someone offers. When it is `done`, its `url` can be saved. */
  acceptFile(id: string): Promise<void> {
    return this.#files.accept(id);
  }

  /** Withdraws a file of one's own, gives up one of another, or forgets one that is done. */
  cancelFile(id: string): Promise<void> {
    return this.#files.cancel(id);
  }

  /** Messages of others that were dropped so far: not of this protocol, too many, or not to be opened. */
  droppedMessages(): Readonly<Record<MessageDrop, number>> {
    return this.#conversation.dropped;
  }

  /** Asks for at most this layer of someone's video, now and after every reconnection. */
  async setPreferredLayers(participantId: string, source: Source, layers: Layers): Promise<void> {
    this.#reception.setLayers(participantId, source, layers);
    await this.#ask((session) => session.setLayers(participantId, source, layers));
  }

  /**
   * Says whether someone's track is looked at, now and after every reconnection. What is not is not sent; in a large room,
   * what is comes before what nobody has spoken of. In rooms with a stage whoever is not on it is received so; `steady`
   * ones by a stream of their own also while they are, so that nothing is seen of their coming and going.
   */
  async setReceiving(
    participantId: string,
    source: Source,
    isWanted: boolean,
    { steady = false }: { steady?: boolean } = {},
  ): Promise<void> {
    this.#reception.setWanted(participantId, source, isWanted, steady);
    await this.#ask((session) => session.review());
  }

  /**
   * Hosts only: mutes something of someone, who cannot unmute it, or lets it be heard and seen again; then it is the person
   * who resumes it.
   */
  async hostMute(participantId: string, what: Mutable, muted = true): Promise<void> {
    const life = this.#life;
    const source = sourceName(what);
    await this.#act('muteParticipant', { target: participantId, source, muted });
    if (life !== this.#life) return;
    this.#hosting.muted(participantId, what, muted);
    this.#changed();
  }

  /** Hosts only: ends someone's connection. Who has a way in may come back: lock the room to keep them out. */
  remove(participantId: string): Promise<void> {
    return this.#act('removeParticipant', { target: participantId });
  }

  /** Hosts only: locks the room, so that newcomers wait to be let in, or are refused; or opens it for all, who waits included. */
  lock(locked: boolean, { waitingRoom = true }: { waitingRoom?: boolean } = {}): Promise<void> {
    return this.#act('lockRoom', { locked, waitingRoom: locked && waitingRoom });
  }

  /** Hosts only: lets someone in who waits. */
  admit(participantId: string): Promise<void> {
    return this.#act('admitParticipant', { target: participantId });
  }

  /** Hosts only: sends someone away who waits. */
  deny(participantId: string): Promise<void> {
    return this.#act('denyParticipant', { target: participantId });
  }

  /** Searches a new network path, for example after the network changed. */
  async restartIce(): Promise<void> {
    await this.#session?.restartIce();
  }

  /** The browser's statistics of both connections. */
  async stats(): Promise<{ send: object[]; recv: object[] }> {
    return (await this.#session?.stats()) ?? { send: [], recv: [] };
  }

  /**
   * Exchanges what encryption rests on, or gives it for the first time; the old one opens frames for ten seconds more.
   * Without a secret nothing is sent and nothing played.
   */
  async setEncryptionSecret(secret: EncryptionOptions['secret']): Promise<void> {
    await this.#encryption.setSecret(secret);
  }

  /** Frames encrypted, decrypted and dropped so far; `undefined` without encryption. */
  encryptionStats(): Promise<FrameCounts | undefined> {
    return this.#encryption.counts();
  }

  /** The user has read the error. */
  dismissError(): void {
    this.#error = null;
    this.#changed();
  }

  async #act<Name extends HostRequest>(name: Name, data: Requests[Name]['data']): Promise<void> {
    const session = this.#session;
    if (!session) throw new MeetingError('server-gone', 'Not connected to the meeting.');
    await session.actAsHost(name, data);
  }

  async #enter(life: number): Promise<void> {
    const identity = { meetingId: this.#options.meetingId, participantId: this.participantId };
    const { url, token, makeDevice } = this.#options;
    this.#encryption.check();
    // A passphrase takes its time, in which the server can be reached.
    const encrypting = this.#encryption.start();
    encrypting.catch(() => undefined);
    const replaces = this.#givenUp;
    const open =
      this.#options.openChannel ??
      (() => WebSocketChannel.open(url, identity, { token, replaces }));
    const channel = await open();
    const encryption = await encrypting.catch((error) => {
      channel.close();
      throw error;
    });
    if (life !== this.#life) return channel.close();
    this.#awaitAll();
    this.#forgetRemote();
    this.#hosting.forget();
    this.#entering = channel;
    const displayName = this.#displayName;
    const session = await Session.enter(channel, this.#handlers(life), {
      displayName,
      makeDevice,
      encryption,
      reception: this.#reception,
      followsAdvice: this.#options.followsAdvice,
      repeatsVoice: this.#options.repeatsVoice,
    }).finally(() => {
      if (this.#entering === channel) this.#entering = undefined;
    });
    if (life !== this.#life) return session.close();
    // Not before: an attempt that comes to nothing may not have ended it.
    this.#givenUp = undefined;
    this.#session = session;
    this.#encryption.connected(channel);
    this.#quality = 'excellent';
    this.#isUnstable = false;
    this.#hasEntered = true;
    this.#setStatus('joined');
    // Another may have been chosen since the server was told.
    if (displayName !== this.#displayName) {
      const renamed = this.#ask(() => session.rename(this.#displayName));
      renamed.catch((error) => console.info('opencall: the name stays as it is', error));
    }
    this.#local.publishAll();
    this.#conversation.connected();
    this.#files.connected();
    this.#awaiting = setTimeout(() => this.#forgetAbsent(), GONE_MS);
  }

  /** Nobody tells who leaves while there is no session. */
  #awaitAll(): void {
    clearTimeout(this.#awaiting);
    for (const { id, isLocal } of this.#roster.all) if (!isLocal) this.#awaited.add(id);
  }

  #forgetAbsent(): void {
    for (const id of this.#awaited) {
      if (!this.#roster.find(id)) this.#reception.forgetParticipant(id);
    }
    this.#awaited.clear();
  }

  #handlers(life: number): SessionHandlers {
    const current =
      <Args extends unknown[]>(handler: (...args: Args) => void) =>
      (...args: Args) => {
        if (life !== this.#life) return;
        handler(...args);
        this.#changed();
      };
    return {
      participantJoined: current((id, displayName) => this.#participantJoined(id, displayName)),
      participantLeft: current((id) => {
        this.#conversation.participantLeft(id);
        this.#files.participantLeft(id);
        this.#roster.remove(id);
        this.#reception.forgetParticipant(id);
        this.#encryption.forgetParticipant(id);
        this.#encryption.rotate();
      }),
      participantsListed: current((participants) => {
        for (const { participantId, displayName } of participants) {
          this.#roster.upsert(participantId, { displayName: displayName || undefined });
          this.#showEncryption(participantId);
        }
      }),
      stageChanged: current((onStage) => {
        this.#stage = onStage;
      }),
      trackAdded: current((track) => this.#trackAdded(track)),
      shown: current((list) => {
        for (const shown of list) this.#show(shown);
      }),
      trackOffered: current(({ participantId, source, producerId }) => {
        this.#roster.setMedia(participantId, source, { producerId, track: null, paused: false });
      }),
      producerClosed: current((producerId) => {
        this.#roster.removeProducer(producerId);
        const owner = this.#encryption.forgetProducer(producerId);
        if (owner) this.#showEncryption(owner);
      }),
      pausedChanged: current((producerId, paused) => this.#roster.setPaused(producerId, paused)),
      ownMuted: current((producerId, muted, by) => {
        const source = this.#local.mutedByServer(producerId, muted);
        if (source) this.#emitter.emit('mutedByHost', { source, muted, by });
      }),
      entered: current((entrance) => this.#hosting.entered(entrance)),
      roomLocked: current((lock) => this.#hosting.roomLocked(lock)),
      recordingChanged: current((news) => {
        this.#hosting.recordingChanged(news);
        this.#emitter.emit('recordingChanged', news);
      }),
      tapChanged: current((news) => {
        this.#hosting.tapChanged(news);
        this.#emitter.emit('tapChanged', news);
      }),
      pushChanged: current((news) => {
        this.#hosting.pushChanged(news);
        this.#emitter.emit('pushChanged', news);
      }),
      captioned: current((event) => this.#emitter.emit('captions', this.#hosting.captioned(event))),
      waiting: current((isWaiting) => this.#setStatus(isWaiting ? 'waiting' : 'joining')),
      adviceChanged: current((advice, isOtherCodec) => {
        this.#emitter.emit('codecAdvice', advice);
        if (isOtherCodec && !this.#options.videoCodec) this.#local.republishVideo();
      }),
      participantWaiting: current((id, name) => {
        const isNew = this.#hosting.participantWaiting(id, name);
        if (isNew) this.#emitter.emit('participantWaiting', { id, name: name ?? id });
      }),
      speakersChanged: current((ids) => {
        this.#speakers = ids;
        this.#roster.setSpeaking(ids);
        if (this.#reception.noteSpeakers(ids)) this.#session?.review().catch(() => undefined);
      }),
      messageReceived: (id, message) => {
        if (life === this.#life) this.#conversation.receive(id, message);
      },
      messageDropped: () => this.#conversation.drop('not-opened'),
      talkerFound: (id, isNew) => {
        if (life === this.#life) this.#conversation.talkerFound(id, isNew || this.#hasEntered);
      },
      fileChannelFound: (id, file) => {
        if (life === this.#life) this.#files.channelFound(id, file);
      },
      talkingBegan: current(() => this.#conversation.talkingBegan()),
      unstable: current((isUnstable) => {
        this.#isUnstable = isUnstable;
      }),
      qualityChanged: current((quality) => {
        this.#quality = quality;
      }),
      encryptionChanged: current((track) => {
        this.#encryption.note(track);
        this.#showEncryption(track.participantId);
      }),
      interrupted: current((isInterrupted) => this.#interrupted(isInterrupted)),
      lost: current((reason) => {
        clearTimeout(this.#banner);
        this.#givenUp = this.#session?.resumeToken;
        this.#session = undefined;
        this.#conversation.lost();
        this.#files.lost();
        void this.#reconnect(life, reason);
      }),
    };
  }

  /** Media go on, and nobody has left; only if it lasts the user is told. */
  #interrupted(isInterrupted: boolean): void {
    clearTimeout(this.#banner);
    this.#isUnstable = isInterrupted;
    if (!isInterrupted) return this.#setStatus('joined');
    this.#banner = setTimeout(() => this.#setStatus('reconnecting'), BANNER_AFTER_MS);
  }

  #participantJoined(id: string, displayName: string | undefined): void {
    const isNew = this.#roster.find(id) === undefined;
    this.#roster.upsert(id, { displayName });
    if (!isNew) return;
    this.#conversation.participantJoined();
    this.#encryption.rotate();
    this.#showEncryption(id);
  }

  #showOwnEncryption(): void {
    this.#roster.setEncryption(this.participantId, this.#encryption.ownState);
    this.#changed();
  }

  #showEncryption(participantId: string): void {
    const state = this.#encryption.stateOf(participantId);
    if (this.#roster.find(participantId)?.encryption === state) return;
    this.#roster.setEncryption(participantId, state);
    this.#emitter.emit('encryptionChanged', { participantId, state });
  }

  /** Asks something of the session, if there is one. That it ends meanwhile is no failure: the next is told all anew. */
  async #ask<T>(ask: (session: Session) => Promise<T>): Promise<T | undefined> {
    const session = this.#session;
    if (!session || session.closed) return undefined;
    try {
      const answer = await ask(session);
      return session.closed ? undefined : answer;
    } catch (error) {
      if (session.closed) return undefined;
      throw error;
    }
  }

  #localHost(): LocalMediaHost {
    return {
      publish: (local) =>
        this.#ask((session) =>
          session.publish({
            source: local.source,
            track: local.track,
            paused: local.paused,
            appData: { displayName: this.#displayName },
            mimeType: this.#options.videoCodec,
          }),
        ),
      unpublish: (producer) => this.#ask((session) => session.unpublish(producer)),
      setProducerPaused: (producer, paused) =>
        this.#ask((session) => session.setProducerPaused(producer, paused)),
      show: (source, local) => this.#showLocal(source, local),
      changed: () => this.#changed(),
      report: (error) => this.#report(error),
      solved: (code) => {
        if (this.#error?.code === code) this.#error = null;
      },
    };
  }

  /** The channels of this moment; throws with words if there are none. */
  #links(): DataLinks {
    const data = this.#session?.data;
    if (!data) throw notConnected();
    return data;
  }

  #makeConversation(): Conversation {
    return new Conversation({
      participantId: this.participantId,
      ready: async () => this.#links().ready(),
      send: async (message) => this.#links().send(message),
      isConnected: () => this.#session?.data !== undefined,
      isGoingOn: () => this.#status === 'joined' || this.#status === 'reconnecting',
      nameOf: (id) => this.#roster.find(id)?.displayName ?? id,
      showHand: (id, raisedAt) => {
        if (this.#roster.setHand(id, raisedAt)) this.#changed();
      },
      showReaction: (id, reaction) => {
        this.#roster.setReaction(id, reaction);
        this.#changed();
      },
      chatChanged: (message) => {
        this.#changed();
        this.#emitter.emit('chat', message);
      },
      appReceived: (message) => this.#emitter.emit('message', message),
      offers: () => this.#files.offers,
      filesOffered: (id, offers) => this.#files.offered(id, offers),
      fileMessageReceived: (id, message) => this.#files.received(id, message),
    });
  }

  #makeFiles(): SharedFiles {
    return new SharedFiles({
      participantId: this.participantId,
      isConnected: () => this.#session?.data !== undefined,
      send: (message) => this.#conversation.sendAboutFile(message),
      tellOffers: () => this.#conversation.tellState(),
      openFile: async (file) => this.#links().files.open(file),
      takeFile: async (from, file, received, ended) =>
        this.#links().files.take(from, file, received, ended),
      changed: () => this.#changed(),
    });
  }

  /** Without its worker nothing leaves this browser; the meeting ends rather than go on in the clear. */
  #encryptionDied(error: MeetingError): void {
    this.#died = { life: this.#life, reason: error };
    this.#life += 1;
    clearTimeout(this.#banner);
    clearTimeout(this.#awaiting);
    this.#entering?.close();
    this.#session?.close();
    this.#session = undefined;
    this.#local.forgetProducers();
    this.#conversation.lost();
    this.#files.lost();
    this.#roster.dropRemoteMedia();
    this.#speakers = [];
    this.#stage = [];
    this.#setStatus('failed');
    this.#report(error);
  }

  #trackAdded(track: RemoteTrack): void {
    const { participantId, displayName, source, producerId, paused } = track;
    this.#roster.upsert(participantId, { displayName });
    this.#roster.setMedia(participantId, source, { producerId, track: track.track, paused });
    this.#emitter.emit('trackAdded', track);
  }

  /** What of a participant in a large room is to be had has changed. */
  #show({ participantId, displayName, source, media }: Shown): void {
    if (media) this.#roster.upsert(participantId, { displayName });
    const before = this.#roster.find(participantId);
    if (!before || before.isLocal) return;
    const { producerId, paused, consumerId, track = null } = media ?? { paused: false };
    this.#roster.showMedia(
      participantId,
      source,
      producerId === undefined ? undefined : { producerId, track, paused },
    );
    if (!track || !consumerId || !producerId || before.media[source]?.track === track) return;
    const whose = { participantId, displayName: before.displayName, source };
    this.#emitter.emit('trackAdded', { ...whose, producerId, consumerId, track, paused });
  }

  async #reconnect(life: number, reason: MeetingError): Promise<void> {
    this.#local.forgetProducers();
    this.#roster.dropRemoteMedia();
    this.#encryption.forgetAll();
    this.#speakers = [];
    this.#stage = [];
    this.#isUnstable = false;
    if (reason.code === 'sent-away') {
      this.#setStatus('failed');
      this.#report(reason);
      return;
    }
    this.#setStatus('reconnecting');
    let last = new MeetingError(
      'server-gone',
      'The meeting server does not come back. Try again later.',
    );
    for (let attempt = 0; ; attempt += 1) {
      const delayMs = backoffDelayMs(attempt);
      if (delayMs === null) break;
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      if (life !== this.#life) return;
      try {
        return await this.#enter(life);
      } catch (error) {
        // Shown as "reconnecting"; the words come only when trying ends.
        console.info('opencall: still not connected', error);
        // A new session that was lost again has its own loop.
        if (life !== this.#life || this.#session) return;
        if (error instanceof MeetingError && HOPELESS.includes(error.code)) {
          last = error;
          break;
        }
      }
    }
    this.#setStatus('failed');
    this.#report(last);
  }

  #showLocal(source: Source, local: LocalTrack | undefined): void {
    const producerId = `local-${source}`;
    if (local) {
      const { track, paused } = local;
      this.#roster.setMedia(this.participantId, source, { producerId, track, paused });
    } else {
      this.#roster.removeProducer(producerId);
    }
    this.#changed();
  }

  #forgetRemote(): void {
    this.#roster.clearRemote();
    this.#roster.setSpeaking([]);
    this.#encryption.forgetAll();
    this.#speakers = [];
    this.#stage = [];
  }

  #report(error: unknown): MeetingError {
    const told = asMeetingError(error);
    this.#error = told;
    this.#changed();
    this.#emitter.emit('error', told);
    return told;
  }

  #setStatus(status: MeetingStatus): void {
    if (this.#status === status) return;
    this.#status = status;
    this.#changed();
    this.#emitter.emit('statusChanged', status);
  }

  #changed(): void {
    const isTalking = this.#session?.data?.isTalking === true;
    this.#encryption.setSending(this.#local.isSending || isTalking);
    this.#snapshot = this.#takeSnapshot();
    this.#emitter.emit('change', this.#snapshot);
  }

  #takeSnapshot(): MeetingSnapshot {
    return {
      ...this.#hosting.snapshot,
      status: this.#status,
      participants: this.#roster.all,
      speakers: this.#speakers,
      stage: this.#stage,
      quality: this.#quality,
      isUnstable: this.#isUnstable,
      devices: {
        camera: this.#local.status('camera'),
        microphone: this.#local.status('microphone'),
        screen: this.#local.status('screen'),
      },
      encryption: this.#encryption.snapshot,
      chat: this.#conversation.chat,
      files: this.#files.list,
      error: this.#error,
    };
  }
}

function notConnected(): MeetingError {
  return new MeetingError('server-gone', 'Not connected to the meeting.');
}
