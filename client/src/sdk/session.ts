import { Device, type types } from 'mediasoup-client';
import { type DataHandlers, DataLinks } from '../data/dataLinks';
import type { Encryption } from '../e2ee/index';
import { codecHints } from './codecAdvice';
import type { Directory } from './directory';
import { MeetingError } from './errors';
import { Liveness } from './liveness';
import { displayNameOf, type Source } from './participants';
import { PathRecovery } from './pathRecovery';
import type {
  CodecAdvice,
  ConnectionQuality,
  Layers,
  ListedParticipant,
  Requests,
  ServerEvents,
} from './protocol';
import { loadRedundancy, type Publication, Publisher } from './publisher';
import { Receiver, type ReceiverHandlers } from './receiver';
import type { Reception } from './reception';
import {
  type ChannelEvents,
  connectionLost,
  FINAL_CLOSE_CODES,
  REFUSING_CLOSE_CODES,
  type SignalingChannel,
} from './signaling';
import { isSlotName, type OnStage } from './slots';

/** What a session tells its owner. */
export interface SessionHandlers extends ReceiverHandlers, DataHandlers {
  participantJoined(participantId: string, displayName: string | undefined): void;
  participantLeft(participantId: string): void;
  /** Some of a large room, who may have been there for long. */
  participantsListed(participants: readonly ListedParticipant[]): void;
  /** Who is on the stage of a large room, pictures first; nobody where there is none. */
  stageChanged(onStage: readonly OnStage[]): void;
  producerClosed(producerId: string): void;
  /** A host or an administrator muted or unmuted what this client sends. */
  ownMuted(producerId: string, muted: boolean, by: string | undefined): void;
  /** What this client may do, and how it finds the room. */
  entered(entrance: Requests['setRtpCapabilities']['answer']): void;
  roomLocked(lock: ServerEvents['roomLocked']): void;
  recordingChanged(recording: ServerEvents['recordingChanged']): void;
  tapChanged(tap: ServerEvents['tapChanged']): void;
  pushChanged(push: ServerEvents['pushChanged']): void;
  captioned(caption: ServerEvents['caption']): void;
  /** This client waits to be let in, or waits no more. */
  waiting(isWaiting: boolean): void;
  /** The server advises something else; whether pictures are to be sent in another codec than now. */
  adviceChanged(advice: CodecAdvice, isOtherCodec: boolean): void;
  /** To hosts: someone waits under this name, or (`undefined`) no more. */
  participantWaiting(participantId: string, displayName: string | undefined): void;
  speakersChanged(participantIds: string[]): void;
  qualityChanged(quality: ConnectionQuality): void;
  /** The way to the server was lost and is searched, or is there again with the same session. */
  interrupted(isInterrupted: boolean): void;
  /** The server does not answer, or does so again; if it stays silent the session is lost. */
  unstable(isUnstable: boolean): void;
  /** The session is over and cannot be used any more. */
  lost(reason: MeetingError): void;
}

/** What hosts ask. */
export type HostRequest =
  | 'muteParticipant'
  | 'removeParticipant'
  | 'lockRoom'
  | 'admitParticipant'
  | 'denyParticipant';

/** How to enter. */
export interface EnterOptions {
  displayName: string;
  makeDevice?: (() => Promise<Device>) | undefined;
  /** All media are encrypted by it, or not sent and not played. It is its owner's. */
  encryption?: Encryption | undefined;
  /** What is received. */
  reception: Reception;
  /** Sends what the server advises, where nothing else is asked for; by default it does. */
  followsAdvice?: boolean | undefined;
  /** Whether the voice repeats itself; otherwise as the server advises. */
  repeatsVoice?: boolean | undefined;
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
  readonly #reception: Reception;
  readonly #followsAdvice: boolean;
  readonly #repeatsVoice: boolean | undefined;
  readonly #liveness: Liveness;
  readonly #paths: PathRecovery;
  #send: types.Transport | undefined;
  #recv: types.Transport | undefined;
  #publisher: Publisher | undefined;
  #receiver: Receiver | undefined;
  #data: DataLinks | undefined;
  #directory: Directory | undefined;
  #loading: Promise<void> | undefined;
  /** What was offered before there was a transport to take it on. */
  #early: ServerEvents['newProducer'][] = [];
  #entered = false;
  /** Why the server does not let this client in. */
  #refusal: MeetingError | undefined;
  #closed = false;

  private constructor(
    channel: SignalingChannel,
    device: Device,
    handlers: SessionHandlers,
    { encryption, reception, followsAdvice = true, repeatsVoice }: EnterOptions,
  ) {
    this.#channel = channel;
    this.#device = device;
    this.#handlers = handlers;
    this.#encryption = encryption;
    this.#reception = reception;
    this.#followsAdvice = followsAdvice;
    this.#repeatsVoice = repeatsVoice;
    this.#paths = new PathRecovery(channel, (reason) => this.#lose(reason));
    this.#liveness = new Liveness({
      ping: () => channel.request('ping', {}),
      unstable: (isUnstable) => handlers.unstable(isUnstable),
      dead: () => {
        if (channel.interrupt?.()) return;
        this.#lose(new MeetingError('server-gone', 'The meeting server does not answer.'));
      },
    });
  }

  /** Enters the meeting. The channel is closed if that fails. */
  static async enter(
    channel: SignalingChannel,
    handlers: SessionHandlers,
    options: EnterOptions,
  ): Promise<Session> {
    const { displayName, makeDevice = detectDevice } = options;
    let session: Session | undefined;
    try {
      session = new Session(channel, await makeDevice(), handlers, options);
      await session.#enter(displayName);
      return session;
    } catch (error) {
      session?.close();
      channel.close();
      throw (session ? session.#refusal : undefined) ?? error;
    }
  }

  async #enter(displayName: string): Promise<void> {
    this.#channel.on('event', (event) => this.#handle(event));
    this.#channel.on('close', (close) => {
      if (REFUSING_CLOSE_CODES.includes(close.code)) this.#refusal = explainClose(close);
      this.#lose(explainClose(close));
    });
    this.#channel.on('interrupted', (isInterrupted) => this.#interrupted(isInterrupted));
    // Asked in one breath: a late joiner sees the others one round trip sooner for each.
    const [hints, redundancy, capabilities, send, recv] = await Promise.all([
      this.#followsAdvice ? codecHints() : undefined,
      loadRedundancy(),
      this.#channel.request('getRouterCapabilities', { displayName }),
      this.#channel.request('createTransport', { direction: 'send' }),
      this.#channel.request('createTransport', { direction: 'recv' }),
    ]);
    await this.#device.load({ routerRtpCapabilities: capabilities });
    // A connection lost meanwhile has closed this session, and nobody would close what is made now.
    if (this.#closed) throw connectionLost();
    this.#send = this.#watch(this.#device.createSendTransport(send));
    this.#recv = this.#watch(this.#device.createRecvTransport(recv));
    // What is encrypted end to end is opened in whole payloads, which the server would change.
    if (!this.#encryption) redundancy?.negotiateRed(this.#send);
    const { recvRtpCapabilities } = this.#device;
    const rtpCapabilities = redundancy?.withRed(recvRtpCapabilities) ?? recvRtpCapabilities;
    this.#publisher = new Publisher({
      channel: this.#channel,
      device: this.#device,
      transport: this.#send,
      encryption: this.#encryption,
      redundancy,
      repeatsVoice: this.#repeatsVoice,
    });
    this.#receiver = new Receiver({
      channel: this.#channel,
      transport: this.#recv,
      rtpCapabilities,
      reception: this.#reception,
      encryption: this.#encryption,
      handlers: this.#handlers,
      ended: (participantId) => this.#directory?.again(participantId),
    });
    this.#data = new DataLinks({
      channel: this.#channel,
      send: this.#send,
      recv: this.#recv,
      encryption: this.#encryption,
      handlers: this.#handlers,
    });
    for (const event of this.#early.splice(0)) this.#receiver.offered(event);
    const entrance = await this.#channel.request('setRtpCapabilities', {
      rtpCapabilities,
      displayName,
      resume: true,
      ...(hints ? { codecHints: hints } : {}),
    });
    const advice = this.#followsAdvice ? entrance?.codecAdvice : undefined;
    if (advice) this.#publisher.advise(advice);
    this.#handlers.entered(entrance);
    this.#entered = true;
    this.#liveness.start();
  }

  /** With it another connection would take this session's place. */
  get resumeToken(): string | undefined {
    return this.#channel.resumeToken;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Sends a track to the others. */
  async publish(publication: Publication): Promise<types.Producer> {
    if (!this.#publisher) throw new MeetingError('server-gone', 'Not connected to the meeting.');
    return this.#publisher.publish(publication);
  }

  /** Stops sending a track. */
  async unpublish(producer: types.Producer): Promise<void> {
    await this.#publisher?.unpublish(producer);
  }

  /** Mutes or unmutes what is sent. */
  async setProducerPaused(producer: types.Producer, paused: boolean): Promise<void> {
    await this.#publisher?.setPaused(producer, paused);
  }

  /** Asks for a layer of a received video; the server sends at most that. */
  async setLayers(participantId: string, source: Source, layers: Layers): Promise<void> {
    if (!this.#closed) await this.#receiver?.setLayers(participantId, source, layers);
  }

  /** The reception has changed: receives what it chooses now. */
  async review(): Promise<void> {
    if (this.#closed) return;
    this.#directory?.look();
    await this.#receiver?.review();
  }

  /** Messages and files; `undefined` when the session is over. */
  get data(): DataLinks | undefined {
    return this.#closed ? undefined : this.#data;
  }

  /** Has the others see another name. */
  async rename(displayName: string): Promise<void> {
    await this.#channel.request('changeDisplayName', { displayName });
  }

  /** Asks what only hosts may. */
  async actAsHost<Name extends HostRequest>(
    name: Name,
    data: Requests[Name]['data'],
  ): Promise<void> {
    await this.#channel.request(name, data);
  }

  /** New credentials and a new search for a path, for both directions. */
  async restartIce(): Promise<void> {
    await this.#paths.restart();
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
    this.#paths.close();
    this.#publisher?.close();
    this.#liveness.stop();
    this.#directory?.stop();
    this.#receiver?.close();
    this.#data?.close();
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

  #watch(transport: types.Transport): types.Transport {
    transport.on('connect', ({ dtlsParameters }, done, fail) => {
      this.#channel
        .request('connectTransport', { transportId: transport.id, dtlsParameters })
        .then(done, fail);
    });
    transport.on(
      'producedata',
      ({ sctpStreamParameters, label, protocol, appData }, done, fail) => {
        const channel = { sctpStreamParameters, label, protocol, appData };
        this.#channel
          .request('produceData', { transportId: transport.id, ...channel })
          .then(({ dataProducerId }) => done({ id: dataProducerId }), fail);
      },
    );
    this.#paths.watch(transport);
    return transport;
  }

  /** The way to the server is lost, or there again. */
  #interrupted(isInterrupted: boolean): void {
    if (this.#closed) return;
    if (isInterrupted) this.#liveness.stop();
    else if (this.#entered) this.#liveness.start();
    this.#handlers.interrupted(isInterrupted);
    this.#paths.interrupted(isInterrupted);
  }

  #handle(event: ChannelEvents['event']): void {
    if (this.#closed) return;
    this.#liveness.heard();
    switch (event.name) {
      case 'newProducer':
        return this.#offered(event.data);
      case 'newDataProducer':
        return this.#data?.offered(event.data, this.#entered);
      case 'dataProducerClosed':
        this.#data?.producerClosed(event.data.dataProducerId);
        return this.#handlers.producerClosed(event.data.dataProducerId);
      case 'dataConsumerClosed':
        return this.#data?.consumerClosed(event.data.dataConsumerId);
      case 'newParticipant':
        // Slots of the stage are told of as people, for clients that know of no stage.
        if (isSlotName(event.data.participantId)) return;
        return this.#handlers.participantJoined(
          event.data.participantId,
          // Who shows no name is called by their id.
          event.data.displayName || undefined,
        );
      case 'participantLeft':
        if (isSlotName(event.data.participantId)) return;
        this.#receiver?.participantLeft(event.data.participantId);
        return this.#handlers.participantLeft(event.data.participantId);
      case 'producerClosed':
        return this.#producerClosed(event.data.producerId);
      case 'consumerClosed':
        return this.#consumerClosed(event.data.consumerId);
      case 'consumerPaused':
        return this.#receiver?.consumerPaused(event.data.consumerId, true);
      case 'consumerResumed':
        return this.#receiver?.consumerPaused(event.data.consumerId, false);
      case 'producerMaxSpatialLayer':
        return this.#publisher?.limitLayers(event.data.producerId, event.data.spatialLayer);
      case 'producerMuted':
        return this.#producerMuted(event.data);
      case 'removed':
      case 'denied':
        // The connection closes next, and says why.
        return;
      case 'codecAdvice':
        return this.#advised(event.data);
      case 'waiting':
        return this.#handlers.waiting(true);
      case 'admitted':
        return this.#handlers.waiting(false);
      case 'roomLocked':
        return this.#handlers.roomLocked(event.data);
      case 'recordingChanged':
        return this.#handlers.recordingChanged(event.data);
      case 'tapChanged':
        return this.#handlers.tapChanged(event.data);
      case 'pushChanged':
        return this.#handlers.pushChanged(event.data);
      case 'caption':
        return this.#handlers.captioned(event.data);
      case 'participantWaiting':
        return this.#handlers.participantWaiting(event.data.participantId, event.data.displayName);
      case 'participantWaitingEnded':
        return this.#handlers.participantWaiting(event.data.participantId, undefined);
      case 'stageChanged':
        return this.#stageChanged(event.data);
      case 'activeSpeakers':
        return this.#handlers.speakersChanged(event.data);
      case 'connectionQuality':
        return this.#handlers.qualityChanged(event.data);
      case 'newConsumer':
        // Said a second time: the answer to `consume` was the first.
        return;
      default:
      // Of the delivery service: for whoever has asked it.
    }
  }

  #offered(event: ServerEvents['newProducer']): void {
    if (!isSlotName(event.participantId)) {
      this.#handlers.participantJoined(event.participantId, displayNameOf(event.appData ?? {}));
    }
    if (this.#receiver) this.#receiver.offered(event);
    else this.#early.push(event);
  }

  #producerMuted({ producerId, muted, by }: ServerEvents['producerMuted']): void {
    if (muted) this.#publisher?.muted(producerId);
    this.#handlers.ownMuted(producerId, muted, by);
  }

  #advised(advice: CodecAdvice): void {
    if (!this.#followsAdvice || !this.#publisher) return;
    this.#handlers.adviceChanged(advice, this.#publisher.advise(advice));
  }

  #stageChanged({ slots }: ServerEvents['stageChanged']): void {
    this.#receiver?.stageChanged(slots);
    this.#tellStage();
    this.#list();
  }

  /** Reads who is in the room: with a stage not everyone is told of. What does it is loaded in the first such room. */
  #list(): void {
    const receiver = this.#receiver;
    if (this.#closed || !receiver || receiver.onStage.isEmpty) return;
    this.#directory?.start();
    this.#directory?.look();
    this.#loading ??= import('./directory').then(({ Directory }) => {
      this.#directory = new Directory({
        channel: this.#channel,
        lookedAt: () => receiver.lookedAt,
        listed: (participants) => {
          this.#handlers.participantsListed(participants);
          receiver.listed(participants);
        },
      });
      this.#list();
    });
    this.#loading.catch((error) => {
      this.#loading = undefined;
      console.info('opencall: not everyone is listed', error);
    });
  }

  #tellStage(): void {
    const slots = this.#receiver?.onStage;
    if (slots?.isEmpty) this.#directory?.stop();
    this.#handlers.stageChanged(slots?.occupants ?? []);
  }

  #producerClosed(producerId: string): void {
    const hadStage = this.#receiver?.onStage.isEmpty === false;
    this.#receiver?.producerClosed(producerId);
    this.#handlers.producerClosed(producerId);
    if (hadStage) this.#tellStage();
  }

  #consumerClosed(consumerId: string): void {
    const producerId = this.#receiver?.producerOf(consumerId);
    if (producerId) this.#producerClosed(producerId);
  }
}

function explainClose({ code, reason }: ChannelEvents['close']): MeetingError {
  if (!FINAL_CLOSE_CODES.includes(code)) {
    return new MeetingError('server-gone', 'The connection to the meeting server was lost.');
  }
  // To the older of two connections of one participant, or to the newer one if the older is alive.
  return new MeetingError(
    'sent-away',
    `The server ended this connection: ${reason || 'no reason given'}.`,
    { reason },
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
