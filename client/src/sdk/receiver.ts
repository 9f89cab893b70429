import type { types } from 'mediasoup-client';
import { codecOf, type SealableCodec } from '../e2ee/codecs';
import { type Encryption, readAnnouncement } from '../e2ee/index';
import { MeetingError } from './errors';
import { LayerRequests } from './layerRequests';
import { displayNameOf, type EncryptionState, type Source, sourceOf } from './participants';
import type { ConsumerData, Layers, ServerEvents } from './protocol';
import { isVideo, type Offered, type Reception } from './reception';
import type { SignalingChannel } from './signaling';

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

/** With more offers than this changes are looked at together: they come in hundreds. */
const FEW_OFFERS = 30;

/** How long a change may wait for others. */
const GATHER_MS = 30;

/** What a receiver tells its owner. */
export interface ReceiverHandlers {
  trackAdded(track: RemoteTrack): void;
  /** Someone sends this, and it is not received: nobody asked for it, and there are many. */
  trackOffered(track: Pick<RemoteTrack, 'participantId' | 'source' | 'producerId'>): void;
  pausedChanged(producerId: string, paused: boolean): void;
  encryptionChanged(encryption: TrackEncryption): void;
}

/** A producer of someone else. What the server says of it while it is on its way to being received holds. */
interface Offer extends Offered {
  readonly event: ServerEvents['newProducer'];
  readonly displayName: string | undefined;
  /** Known once the server has answered. */
  consumerId: string | undefined;
  consumer: types.Consumer | undefined;
  isUnderWay: boolean;
  /** It cannot be received, which asking again would not mend. */
  hasFailed: boolean;
  /** Its owner paused it. */
  paused: boolean;
  /** Its track, or its owner, is gone. */
  isWithdrawn: boolean;
}

/** What a receiver works with. */
export interface ReceiverOptions {
  channel: SignalingChannel;
  transport: types.Transport;
  rtpCapabilities: types.RtpCapabilities;
  reception: Reception;
  encryption: Encryption | undefined;
  handlers: ReceiverHandlers;
}

/** Receives of all that is offered what the reception chooses. */
export class Receiver {
  readonly #options: ReceiverOptions;
  readonly #layers: LayerRequests;
  /** By producer, in order of arrival. */
  readonly #offers = new Map<string, Offer>();
  #soon: Promise<void> | undefined;
  #isClosed = false;

  constructor(options: ReceiverOptions) {
    this.#options = options;
    this.#layers = new LayerRequests((consumerId, layers) =>
      options.channel.request('setConsumerPreferredLayers', { consumerId, layers }),
    );
  }

  /** Someone sends a track. */
  offered(event: ServerEvents['newProducer']): void {
    const { participantId, producerId, kind } = event;
    if (this.#offers.has(producerId) || !this.#mayPlay(event)) return;
    const appData = event.appData ?? {};
    const source = sourceOf(kind, appData);
    this.#offers.set(producerId, {
      ...{ event, participantId, producerId, source, displayName: displayNameOf(appData) },
      ...{ consumerId: undefined, consumer: undefined, isUnderWay: false, hasFailed: false },
      ...{ paused: false, isWithdrawn: false },
    });
    this.#reviewLater();
    const offer = this.#offers.get(producerId);
    if (offer && !offer.isUnderWay) {
      this.#options.handlers.trackOffered({ participantId, source, producerId });
    }
  }

  /** Makes what is received what is chosen. Resolves when all that was asked for it is answered. */
  review(): Promise<void> {
    if (this.#offers.size <= FEW_OFFERS) return this.#reviewNow();
    this.#soon ??= new Promise((resolve) => setTimeout(resolve, GATHER_MS)).then(() => {
      this.#soon = undefined;
      return this.#reviewNow();
    });
    return this.#soon;
  }

  #reviewLater(): void {
    this.review().catch((error) => console.info('opencall: what is received stays', error));
  }

  async #reviewNow(): Promise<void> {
    if (this.#isClosed) return;
    const { chosen, places } = this.#options.reception.choose(this.#takeable());
    const requests: Promise<unknown>[] = [];
    for (const offer of this.#offers.values()) {
      if (!chosen.has(offer.producerId)) continue;
      if (offer.consumer) requests.push(this.#setPaused(offer.consumer, false));
      else if (!offer.isUnderWay) void this.#receive(offer);
    }
    for (const offer of [...this.#offers.values()]) {
      const { consumer, source } = offer;
      if (!consumer || chosen.has(offer.producerId)) continue;
      // What is put aside stays at hand while there is room.
      if (this.#count(source) > places(source)) requests.push(this.#putBack(offer, consumer));
      else requests.push(this.#setPaused(consumer, true));
    }
    await Promise.all(requests);
  }

  /** Asks for a layer of a received video; the server sends at most that. */
  async setLayers(participantId: string, source: Source, layers: Layers): Promise<void> {
    for (const { consumer, ...offer } of this.#offers.values()) {
      if (!consumer || offer.participantId !== participantId || offer.source !== source) continue;
      await this.#layers.want(consumer.id, layers);
    }
  }

  /** Someone left, with all that is theirs. */
  participantLeft(participantId: string): void {
    for (const offer of [...this.#offers.values()]) {
      if (offer.participantId === participantId) this.#withdraw(offer);
    }
    this.#reviewLater();
  }

  producerClosed(producerId: string): void {
    const offer = this.#offers.get(producerId);
    if (!offer) return;
    this.#withdraw(offer);
    this.#reviewLater();
  }

  /** Whose consumer that was: the producer. */
  consumerClosed(consumerId: string): string | undefined {
    const offer = this.#offerOf(consumerId);
    if (!offer) return undefined;
    this.#withdraw(offer);
    this.#reviewLater();
    return offer.producerId;
  }

  consumerPaused(consumerId: string, paused: boolean): void {
    const offer = this.#offerOf(consumerId);
    if (!offer) return;
    offer.paused = paused;
    if (offer.consumer) this.#options.handlers.pausedChanged(offer.producerId, paused);
  }

  /** Its transport is its owner's. */
  close(): void {
    this.#isClosed = true;
    this.#layers.clear();
  }

  *#takeable(): Iterable<Offer> {
    for (const offer of this.#offers.values()) if (!offer.hasFailed) yield offer;
  }

  #count(source: Source): number {
    let count = 0;
    for (const offer of this.#offers.values()) {
      if (offer.consumer && offer.event.kind === (isVideo(source) ? 'video' : 'audio')) count += 1;
    }
    return count;
  }

  async #receive(offer: Offer): Promise<void> {
    offer.isUnderWay = true;
    try {
      await this.#consume(offer);
    } catch (error) {
      offer.hasFailed = true;
      if (this.#isClosed || offer.isWithdrawn) return;
      console.warn('opencall: a track cannot be received', error);
    } finally {
      offer.isUnderWay = false;
    }
    // What was chosen meanwhile counts.
    if (offer.consumer) this.#reviewLater();
  }

  async #consume(offer: Offer): Promise<void> {
    const { channel, rtpCapabilities, transport, handlers, reception } = this.#options;
    const { participantId, producerId, source, event } = offer;
    const request = { producerId, rtpCapabilities };
    const answer: ConsumerData = await channel.request('consume', request);
    if (this.#isClosed || offer.isWithdrawn) return;
    offer.consumerId = answer.id;
    offer.paused = answer.producerPaused ?? false;
    const protection = this.#openingOf(event, answer);
    const consumer = await transport.consume({
      id: answer.id,
      producerId,
      kind: answer.kind,
      rtpParameters: answer.rtpParameters,
      streamId: streamIdOf(participantId, source),
      appData: { participantId },
      ...protection?.options,
    });
    consumer.observer.once('close', () => protection?.release());
    // Negotiation takes a busy browser seconds, in which people leave.
    if (this.#isClosed || offer.isWithdrawn) return consumer.close();
    if (protection && !protection.isOn()) {
      consumer.close();
      throw new MeetingError('encryption-unsupported', 'This browser cannot decrypt media.');
    }
    offer.consumer = consumer;
    const { displayName, paused } = offer;
    const track = { participantId, displayName, source, producerId, consumerId: consumer.id };
    handlers.trackAdded({ ...track, track: consumer.track, paused });
    const layers = reception.layers(participantId, source);
    if (layers) this.#layers.want(consumer.id, layers).catch(() => undefined);
    // Whoever was told of the track may have put it aside already.
    if (consumer.paused) return;
    await channel.request('resumeConsumer', { consumerId: consumer.id });
  }

  async #setPaused(consumer: types.Consumer, paused: boolean): Promise<void> {
    if (consumer.closed || consumer.paused === paused) return;
    if (paused) consumer.pause();
    else consumer.resume();
    const name = paused ? 'pauseConsumer' : 'resumeConsumer';
    await this.#options.channel.request(name, { consumerId: consumer.id });
  }

  /** Gives up a consumer whose place another needs; its producer can be received again. */
  async #putBack(offer: Offer, consumer: types.Consumer): Promise<void> {
    const { participantId, source, producerId } = offer;
    this.#forget(offer);
    this.#options.handlers.trackOffered({ participantId, source, producerId });
    await this.#options.channel.request('closeConsumer', { consumerId: consumer.id });
  }

  #withdraw(offer: Offer): void {
    offer.isWithdrawn = true;
    this.#offers.delete(offer.producerId);
    this.#forget(offer);
  }

  #forget(offer: Offer): void {
    if (offer.consumerId) this.#layers.forget(offer.consumerId);
    offer.consumer?.close();
    offer.consumer = undefined;
    offer.consumerId = undefined;
  }

  #offerOf(consumerId: string): Offer | undefined {
    for (const offer of this.#offers.values()) if (offer.consumerId === consumerId) return offer;
    return undefined;
  }

  /** Whether a producer fits this end's encryption; if not, it is not even asked for. */
  #mayPlay({ participantId, producerId, appData }: ServerEvents['newProducer']): boolean {
    const isEncrypted = appData?.e2ee !== undefined && appData.e2ee !== null;
    if (!this.#options.encryption && !isEncrypted) return true;
    const salt = readAnnouncement(appData);
    const tell = (state: EncryptionState) =>
      this.#options.handlers.encryptionChanged({ participantId, producerId, state, salt });
    if (this.#options.encryption && salt) {
      tell('pending');
      return true;
    }
    if (!isEncrypted) tell('not-encrypted');
    // Without encryption here it would be noise; in another way than is known here it cannot be opened.
    else tell(this.#options.encryption ? 'wrong-key' : 'waiting-for-key');
    return false;
  }

  /** Decrypts a track that is about to be received. */
  #openingOf(
    { participantId, producerId, kind, appData }: ServerEvents['newProducer'],
    { rtpParameters }: ConsumerData,
  ) {
    const encryption = this.#options.encryption;
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
        this.#options.handlers.encryptionChanged({ participantId, producerId, state, salt }),
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
}

/**
 * One stream for each participant's person and one for their screen: lips stay with voices, and screens apart. Encoded,
 * because it becomes a word of the SDP.
 */
function streamIdOf(participantId: string, source: Source): string {
  const part = source.startsWith('screen') ? 'screen' : 'person';
  return `${encodeURIComponent(participantId)}-${part}`;
}
