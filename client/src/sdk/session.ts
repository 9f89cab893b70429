import { Device, type types } from 'mediasoup-client';
import { codecOf, type SealableCodec } from '../e2ee/codecs';
import { type Encryption, readAnnouncement } from '../e2ee/index';
import { CAMERA_ENCODINGS, MICROPHONE_CODEC, SCREEN_ENCODINGS, VIDEO_CODEC } from './encodings';
import { MeetingError } from './errors';
import { displayNameOf, type EncryptionState, type Source, sourceOf } from './participants';
import type { AppData, ConnectionQuality, ConsumerData, Layers, ServerEvents } from './protocol';
import { SentLayers } from './sentLayers';
import {
  type ChannelEvents,
  connectionLost,
  FINAL_CLOSE_CODES,
  type SignalingChannel,
} from './signaling';

/** A path that is only disturbed often heals by itself within this time. */
const DISCONNECTED_GRACE_MS = 1_500;

/** If the server does not answer a restart this fast, the path to it is gone too. */
const RESTART_TIMEOUT_MS = 5_000;

/** A restarted path that does not carry packets after this long is given up. */
const RECOVERY_TIMEOUT_MS = 8_000;

/** A track of another participant. */
export interface RemoteTrack {
  participantId: string;
  displayName: string | undefined;
  source: Source;
  producerId: string;
  consumerId: string;
  track: MediaStreamTrack;
  paused: boolean;
}

/** What is known of the encryption of one track of another participant. */
export interface TrackEncryption {
  participantId: string;
  producerId: string;
  state: EncryptionState;
  /** Of the sender session, where it announces one. */
  salt: Uint8Array<ArrayBuffer> | undefined;
}

/** What a session tells its owner. */
export interface SessionHandlers {
  participantJoined(participantId: string, displayName: string | undefined): void;
  participantLeft(participantId: string): void;
  trackAdded(track: RemoteTrack): void;
  producerClosed(producerId: string): void;
  pausedChanged(producerId: string, paused: boolean): void;
  /** An administrator muted or unmuted what this client sends. */
  ownMuted(producerId: string, muted: boolean): void;
  speakersChanged(participantIds: string[]): void;
  qualityChanged(quality: ConnectionQuality): void;
  encryptionChanged(encryption: TrackEncryption): void;
  /** The session is over and cannot be used any more. */
  lost(reason: MeetingError): void;
}

/** What to publish. */
export interface Publication {
  source: Source;
  track: MediaStreamTrack;
  paused: boolean;
  appData: AppData;
  /** For example `video/VP9`; otherwise the first that both sides know. */
  mimeType?: string | undefined;
}

/** How to enter. */
export interface EnterOptions {
  displayName: string;
  makeDevice?: (() => Promise<Device>) | undefined;
  /** All media are encrypted by it, or not sent and not played. It is its owner's. */
  encryption?: Encryption | undefined;
}

/** A producer on its way to being received. What the server says of it meanwhile holds. */
interface Offer {
  participantId: string;
  /** Known once the server has answered. */
  consumerId: string | undefined;
  paused: boolean;
  /** Its track, or its owner, is gone. */
  isWithdrawn: boolean;
}

/**
 * One life on the server: from connecting until the connection, on whatever level, is lost. It never comes back;
 * the owner makes a new one.
 */
export class Session {
  readonly #channel: SignalingChannel;
  readonly #device: Device;
  readonly #handlers: SessionHandlers;
  readonly #encryption: Encryption | undefined;
  readonly #consumers = new Map<string, types.Consumer>();
  /** By producer. */
  readonly #offers = new Map<string, Offer>();
  readonly #producers = new Map<string, types.Producer>();
  readonly #sentLayers = new SentLayers();
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  #send: types.Transport | undefined;
  #recv: types.Transport | undefined;
  #entered = false;
  #closed = false;

  private constructor(
    channel: SignalingChannel,
    device: Device,
    handlers: SessionHandlers,
    encryption: Encryption | undefined,
  ) {
    this.#channel = channel;
    this.#device = device;
    this.#handlers = handlers;
    this.#encryption = encryption;
  }

  /** Enters the meeting. The channel is closed if that fails. */
  static async enter(
    channel: SignalingChannel,
    handlers: SessionHandlers,
    { displayName, makeDevice = detectDevice, encryption }: EnterOptions,
  ): Promise<Session> {
    let session: Session | undefined;
    try {
      session = new Session(channel, await makeDevice(), handlers, encryption);
      await session.#enter(displayName);
      return session;
    } catch (error) {
      session?.close();
      channel.close();
      throw error;
    }
  }

  async #enter(displayName: string): Promise<void> {
    this.#channel.on('event', (event) => this.#handle(event));
    this.#channel.on('close', (close) => this.#lose(explainClose(close)));
    // Asked in one breath: a late joiner sees the others one round trip sooner for each.
    const [capabilities, send, recv] = await Promise.all([
      this.#channel.request('getRouterCapabilities', {}),
      this.#channel.request('createTransport', { direction: 'send' }),
      this.#channel.request('createTransport', { direction: 'recv' }),
    ]);
    await this.#device.load({ routerRtpCapabilities: capabilities });
    // A connection lost meanwhile has closed this session, and nobody would close what is made now.
    if (this.#closed) throw connectionLost();
    this.#send = this.#watch(this.#device.createSendTransport(send));
    this.#recv = this.#watch(this.#device.createRecvTransport(recv));
    await this.#channel.request('setRtpCapabilities', {
      rtpCapabilities: this.#device.recvRtpCapabilities,
      displayName,
    });
    this.#entered = true;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Sends a track to the others. */
  async publish(publication: Publication): Promise<types.Producer> {
    if (!this.#send) throw new MeetingError('server-gone', 'Not connected to the meeting.');
    const { source, track } = publication;
    if (!this.#device.canProduce(track.kind as types.MediaKind)) {
      throw new MeetingError(
        'media-unsupported',
        `The server and this browser share no ${track.kind} codec.`,
      );
    }
    const options = this.#sendOptions(publication);
    const protection = this.#encryption && this.#protect(this.#encryption, source, options.codec);
    const producer = await this.#send.produce({
      track,
      stopTracks: false,
      appData: { ...publication.appData, ...this.#encryption?.announce(), source },
      ...options,
      ...protection?.options,
    });
    this.#producers.set(producer.id, producer);
    if (protection && !protection.isOn()) {
      await this.unpublish(producer);
      throw new MeetingError(
        'encryption-unsupported',
        'This browser gives no way to encrypt what it sends. Nothing was sent.',
      );
    }
    void this.#sentLayers.apply(producer);
    if (publication.paused) await this.setProducerPaused(producer, true);
    return producer;
  }

  /** Stops sending a track. */
  async unpublish(producer: types.Producer): Promise<void> {
    this.#producers.delete(producer.id);
    this.#sentLayers.forget(producer.id);
    producer.close();
    if (this.#closed) return;
    await this.#channel.request('closeProducer', { producerId: producer.id });
  }

  /** Mutes or unmutes what is sent. */
  async setProducerPaused(producer: types.Producer, paused: boolean): Promise<void> {
    if (paused) producer.pause();
    const name = paused ? 'pauseProducer' : 'resumeProducer';
    await this.#channel.request(name, { producerId: producer.id });
    // What an administrator muted is refused, and stays paused.
    if (!paused) producer.resume();
  }

  /** Asks for a layer of a received video; the server sends at most that. */
  async setPreferredLayers(consumerId: string, layers: Layers): Promise<void> {
    if (this.#closed || !this.#consumers.has(consumerId)) return;
    await this.#channel.request('setConsumerPreferredLayers', { consumerId, layers });
  }

  /** Stops or resumes the sending of a received track by the server. */
  async setConsumerPaused(consumerId: string, paused: boolean): Promise<void> {
    const consumer = this.#consumers.get(consumerId);
    if (this.#closed || !consumer || consumer.paused === paused) return;
    if (paused) consumer.pause();
    else consumer.resume();
    await this.#channel.request(paused ? 'pauseConsumer' : 'resumeConsumer', { consumerId });
  }

  /** New credentials and a new search for a path, for both directions. */
  async restartIce(): Promise<void> {
    await Promise.all(
      [this.#send, this.#recv].map((transport) => transport && this.#restart(transport)),
    );
  }

  /** The browser's own statistics of both connections. */
  async stats(): Promise<{ send: object[]; recv: object[] }> {
    const read = async (transport: types.Transport | undefined) =>
      transport && !transport.closed ? [...(await transport.getStats()).values()] : [];
    const [send, recv] = await Promise.all([read(this.#send), read(this.#recv)]);
    return { send, recv };
  }

  /** Leaves. Tracks given to `publish` keep running: they are their owner's. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#send?.close();
    this.#recv?.close();
    this.#channel.close();
  }

  #lose(reason: MeetingError): void {
    if (this.#closed) return;
    this.close();
    // Before that, `enter` rejects, and one of the two is enough.
    if (this.#entered) this.#handlers.lost(reason);
  }

  /** Encrypts a track that is about to be sent. Throws if its codec cannot be. */
  #protect(encryption: Encryption, source: Source, codec: types.RtpCodecCapability | undefined) {
    const sealable = codecOf(codec?.mimeType);
    if (!sealable) {
      throw new MeetingError(
        'encryption-unsupported',
        `Media in ${codec?.mimeType ?? 'an unknown codec'} cannot be encrypted, and were not sent.`,
      );
    }
    let isOn = false;
    const onRtpSender = (sender: RTCRtpSender) => {
      encryption.protectSender(sender, source, sealable);
      isOn = true;
    };
    return { options: { onRtpSender }, isOn: () => isOn };
  }

  #sendOptions({ source, track, mimeType }: Publication): Partial<types.ProducerOptions> {
    const codecs = this.#device.sendRtpCapabilities.codecs ?? [];
    // The first is what would be taken; it is named where it must be known.
    const first = this.#encryption && codecs.find(({ kind }) => kind === track.kind);
    if (source === 'microphone' || source === 'screenAudio')
      return { codecOptions: MICROPHONE_CODEC, ...(first ? { codec: first } : {}) };
    const codec =
      codecs.find((candidate) => candidate.mimeType.toLowerCase() === mimeType?.toLowerCase()) ??
      first;
    return {
      encodings: source === 'camera' ? CAMERA_ENCODINGS : SCREEN_ENCODINGS,
      codecOptions: VIDEO_CODEC,
      ...(codec ? { codec } : {}),
    };
  }

  #watch(transport: types.Transport): types.Transport {
    transport.on('connect', ({ dtlsParameters }, done, fail) => {
      this.#channel
        .request('connectTransport', { transportId: transport.id, dtlsParameters })
        .then(done, fail);
    });
    transport.on('produce', ({ kind, rtpParameters, appData }, done, fail) => {
      this.#channel
        .request('produce', { transportId: transport.id, kind, rtpParameters, appData })
        .then(({ producerId }) => done({ id: producerId }), fail);
    });
    transport.on('connectionstatechange', (state) => {
      if (state === 'failed') this.#recover(transport);
      if (state !== 'disconnected') return;
      this.#after(DISCONNECTED_GRACE_MS, () => {
        if (transport.connectionState === 'disconnected') this.#recover(transport);
      });
    });
    return transport;
  }

  #recover(transport: types.Transport): void {
    if (this.#closed || transport.closed) return;
    const lose = () =>
      this.#lose(new MeetingError('server-gone', 'Sound and pictures no longer reach the server.'));
    this.#restart(transport).then(() => {
      this.#after(RECOVERY_TIMEOUT_MS, () => {
        if (transport.connectionState !== 'connected') lose();
      });
    }, lose);
  }

  async #restart(transport: types.Transport): Promise<void> {
    const iceParameters = await this.#channel.request(
      'restartIce',
      { transportId: transport.id },
      { timeoutMs: RESTART_TIMEOUT_MS },
    );
    await transport.restartIce({ iceParameters });
  }

  #handle(event: ChannelEvents['event']): void {
    if (this.#closed) return;
    switch (event.name) {
      case 'newProducer':
        void this.#offered(event.data);
        return;
      case 'newParticipant':
        return this.#handlers.participantJoined(event.data.participantId, event.data.displayName);
      case 'participantLeft':
        return this.#participantLeft(event.data.participantId);
      case 'producerClosed':
        return this.#producerClosed(event.data.producerId);
      case 'consumerClosed':
        return this.#consumerClosed(event.data.consumerId);
      case 'consumerPaused':
        return this.#consumerPaused(event.data.consumerId, true);
      case 'consumerResumed':
        return this.#consumerPaused(event.data.consumerId, false);
      case 'producerMaxSpatialLayer': {
        const { producerId, spatialLayer } = event.data;
        return this.#sentLayers.limit(producerId, spatialLayer, this.#producers.get(producerId));
      }
      case 'producerMuted':
        return this.#producerMuted(event.data.producerId, event.data.muted);
      case 'removed':
        // The connection closes next, and says why.
        return;
      case 'activeSpeakers':
        return this.#handlers.speakersChanged(event.data);
      case 'connectionQuality':
        return this.#handlers.qualityChanged(event.data);
      case 'newConsumer':
        // Said a second time: the answer to `consume` was the first.
        return;
    }
  }

  async #offered(event: ServerEvents['newProducer']): Promise<void> {
    const { participantId, producerId, appData } = event;
    this.#handlers.participantJoined(participantId, displayNameOf(appData ?? {}));
    const isKnown = [...this.#consumers.values()].some((known) => known.producerId === producerId);
    if (isKnown || this.#offers.has(producerId)) return;
    if (!this.#mayPlay(event)) return;
    const offer = { participantId, consumerId: undefined, paused: false, isWithdrawn: false };
    this.#offers.set(producerId, offer);
    try {
      await this.#consume(event, offer);
    } catch (error) {
      if (this.#closed || offer.isWithdrawn) return;
      console.warn('opencall: a track cannot be received', error);
    } finally {
      this.#offers.delete(producerId);
    }
  }

  async #consume(event: ServerEvents['newProducer'], offer: Offer): Promise<void> {
    const { participantId, producerId, kind, appData } = event;
    const answer: ConsumerData = await this.#channel.request('consume', {
      producerId,
      rtpCapabilities: this.#device.recvRtpCapabilities,
    });
    if (this.#closed || offer.isWithdrawn || !this.#recv) return;
    offer.consumerId = answer.id;
    offer.paused = answer.producerPaused ?? false;
    const protection = this.#openingOf(event, answer);
    const consumer = await this.#recv.consume({
      id: answer.id,
      producerId,
      kind: answer.kind,
      rtpParameters: answer.rtpParameters,
      streamId: streamIdOf(participantId, sourceOf(kind, appData ?? {})),
      appData: { participantId },
      ...protection?.options,
    });
    consumer.observer.once('close', () => protection?.release());
    // Negotiation takes a busy browser seconds, in which people leave.
    if (this.#closed || offer.isWithdrawn) return consumer.close();
    if (protection && !protection.isOn()) {
      consumer.close();
      throw new MeetingError('encryption-unsupported', 'This browser cannot decrypt media.');
    }
    this.#consumers.set(consumer.id, consumer);
    this.#handlers.trackAdded({
      participantId,
      displayName: displayNameOf(appData ?? {}),
      source: sourceOf(kind, appData ?? answer.appData ?? {}),
      producerId,
      consumerId: consumer.id,
      track: consumer.track,
      paused: offer.paused,
    });
    // Whoever was told of the track may have put it aside already.
    if (consumer.paused) return;
    await this.#channel.request('resumeConsumer', { consumerId: consumer.id });
  }

  /** Whether a producer fits this end's encryption; if not, it is not even asked for. */
  #mayPlay({ participantId, producerId, appData }: ServerEvents['newProducer']): boolean {
    const isEncrypted = appData?.e2ee !== undefined && appData.e2ee !== null;
    if (!this.#encryption && !isEncrypted) return true;
    const salt = readAnnouncement(appData);
    const tell = (state: EncryptionState) =>
      this.#handlers.encryptionChanged({ participantId, producerId, state, salt });
    if (this.#encryption && salt) {
      tell('pending');
      return true;
    }
    if (!isEncrypted) tell('not-encrypted');
    // Without encryption here it would be noise; in another way than is known here it cannot be opened.
    else tell(this.#encryption ? 'wrong-key' : 'waiting-for-key');
    return false;
  }

  /** Decrypts a track that is about to be received. */
  #openingOf(
    { participantId, producerId, kind, appData }: ServerEvents['newProducer'],
    { rtpParameters }: ConsumerData,
  ) {
    const encryption = this.#encryption;
    const salt = readAnnouncement(appData);
    if (!encryption || !salt) return undefined;
    const codec: SealableCodec | undefined = codecOf(rtpParameters.codecs[0]?.mimeType);
    if (!codec) throw new MeetingError('encryption-unsupported', 'An unknown codec is not played.');
    const track = {
      participantId,
      source: sourceOf(kind, appData ?? {}),
      salt,
      codec,
      onState: (state: EncryptionState) =>
        this.#handlers.encryptionChanged({ participantId, producerId, state, salt }),
    };
    let release: (() => void) | undefined;
    const onRtpReceiver = (receiver: RTCRtpReceiver) => {
      release = encryption.protectReceiver(receiver, track);
    };
    return {
      options: { onRtpReceiver },
      isOn: () => release !== undefined,
      release: () => release?.(),
    };
  }

  #participantLeft(participantId: string): void {
    for (const offer of this.#offers.values()) {
      if (offer.participantId === participantId) offer.isWithdrawn = true;
    }
    for (const consumer of this.#consumers.values()) {
      if (consumer.appData.participantId === participantId) this.#forget(consumer);
    }
    this.#handlers.participantLeft(participantId);
  }

  #producerClosed(producerId: string): void {
    const offer = this.#offers.get(producerId);
    if (offer) offer.isWithdrawn = true;
    for (const consumer of this.#consumers.values()) {
      if (consumer.producerId === producerId) this.#forget(consumer);
    }
    this.#handlers.producerClosed(producerId);
  }

  #consumerClosed(consumerId: string): void {
    const offer = this.#offerOf(consumerId);
    if (offer) offer.isWithdrawn = true;
    const consumer = this.#consumers.get(consumerId);
    if (!consumer) return;
    this.#forget(consumer);
    this.#handlers.producerClosed(consumer.producerId);
  }

  #producerMuted(producerId: string, muted: boolean): void {
    if (muted) this.#producers.get(producerId)?.pause();
    this.#handlers.ownMuted(producerId, muted);
  }

  #consumerPaused(consumerId: string, paused: boolean): void {
    const offer = this.#offerOf(consumerId);
    if (offer) offer.paused = paused;
    const consumer = this.#consumers.get(consumerId);
    if (consumer) this.#handlers.pausedChanged(consumer.producerId, paused);
  }

  #offerOf(consumerId: string): Offer | undefined {
    return [...this.#offers.values()].find((offer) => offer.consumerId === consumerId);
  }

  #forget(consumer: types.Consumer): void {
    this.#consumers.delete(consumer.id);
    consumer.close();
  }

  #after(delayMs: number, action: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      if (!this.#closed) action();
    }, delayMs);
    this.#timers.add(timer);
  }
}

/**
 * One stream for each participant's person and one for their screen: lips stay with voices, and screens apart. Encoded,
 * because it becomes a word of the SDP.
 */
function streamIdOf(participantId: string, source: Source): string {
  const part = source.startsWith('screen') ? 'screen' : 'person';
  return `${encodeURIComponent(participantId)}-${part}`;
}

function explainClose({ code, reason }: ChannelEvents['close']): MeetingError {
  if (!FINAL_CLOSE_CODES.includes(code)) {
    return new MeetingError('server-gone', 'The connection to the meeting server was lost.');
  }
  // To the older of two connections of one participant, or to the newer one if the older is alive.
  return new MeetingError(
    'sent-away',
    `The server ended this connection: ${reason || 'no reason given'}.`,
  );
}

async function detectDevice(): Promise<Device> {
  try {
    return await Device.factory();
  } catch (error) {
    throw new MeetingError('media-unsupported', 'This browser cannot take part in video calls.', {
      cause: error,
    });
  }
}
