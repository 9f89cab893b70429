import type { types } from 'mediasoup-client';
import type { Encryption } from '../e2ee/index';
import { MeetingError } from './errors';
import { LayerRequests } from './layerRequests';
import { keyOf, newOffer, type Offer, type Pair, pairOf, worth } from './offers';
import { mayPlay, openingOf, type TrackEncryption } from './opening';
import { type Source, sourceOf } from './participants';
import type { ConsumerData, Layers, ListedParticipant, ServerEvents, StageSlot } from './protocol';
import { isVideo, type Reception } from './reception';
import type { SignalingChannel } from './signaling';
import { isSlotName, Slots, sourceNamed } from './slots';

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

/** What is to be shown of someone now; nothing without a `track`, where there may be a stream to ask for. */
export interface Shown {
  participantId: string;
  displayName: string | undefined;
  source: Source;
  media:
    | (Pick<RemoteTrack, 'producerId' | 'paused'> &
        Partial<Pick<RemoteTrack, 'track' | 'consumerId'>>)
    | undefined;
}

/** With more offers than this changes are looked at together: they come in hundreds. */
const FEW_OFFERS = 30;

/** How long a change may wait for others. */
const GATHER_MS = 30;

/** From a stream's first packet on its first picture is seen after so long, or a moment later. */
const FIRST_PICTURE_MS = 100;

/** What a receiver tells its owner. */
export interface ReceiverHandlers {
  trackAdded(track: RemoteTrack): void;
  /** Someone sends this, and it is not received: nobody asked for it, and there are many. */
  trackOffered(track: Pick<RemoteTrack, 'participantId' | 'source' | 'producerId'>): void;
  /** In rooms with a stage: where each of these is to be had has changed. */
  shown(list: readonly Shown[]): void;
  pausedChanged(producerId: string, paused: boolean): void;
  encryptionChanged(encryption: TrackEncryption): void;
}

/** What a receiver works with. */
export interface ReceiverOptions {
  channel: SignalingChannel;
  transport: types.Transport;
  rtpCapabilities: types.RtpCapabilities;
  reception: Reception;
  encryption: Encryption | undefined;
  handlers: ReceiverHandlers;
  /** What was received of somebody beside the stage has ended, and something else may have begun. */
  ended: (participantId: string) => void;
}

/** Receives of all that is offered what the reception chooses. */
export class Receiver {
  readonly #options: ReceiverOptions;
  readonly #layers: LayerRequests;
  /** By producer, in order of arrival. */
  readonly #offers = new Map<string, Offer>();
  readonly #slots = new Slots();
  readonly #tell = (known: TrackEncryption) => this.#options.handlers.encryptionChanged(known);
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
    if (isSlotName(participantId)) return this.#slotOffered(event);
    const listed = this.#offers.get(producerId);
    if (listed) listed.way = 'offered';
    if (!listed) {
      if (!mayPlay(this.#options.encryption, event, this.#tell)) return;
      this.#add(event, sourceOf(kind, event.appData ?? {}), 'offered');
    }
    this.#reviewLater();
    const offer = this.#offers.get(producerId);
    if (offer && !offer.isUnderWay && !offer.consumer) {
      const { source } = offer;
      this.#options.handlers.trackOffered({ participantId, source, producerId });
    }
  }

  /** Of the stage, nobody has chosen anything yet: it is received before anyone is there, so that they are seen at once. */
  #slotOffered(event: ServerEvents['newProducer']): void {
    // A receiver has the keys of one sender.
    if (this.#options.encryption || this.#offers.has(event.producerId)) return;
    const occupant = this.#slots.occupant(event.producerId);
    const offer = this.#add(event, occupant?.source ?? sourceOf(event.kind, {}), 'slot');
    if (occupant) offer.participantId = occupant.participantId;
    this.#reviewLater();
  }

  #add(event: ServerEvents['newProducer'], source: Source, way: Offer['way']): Offer {
    const offer = newOffer(event, source, way);
    this.#offers.set(offer.producerId, offer);
    return offer;
  }

  /** Others are on slots of the stage. */
  stageChanged(slots: readonly StageSlot[]): void {
    const changed: Pair[] = [];
    for (const slot of slots) {
      const before = this.#slots.set(slot);
      if (before?.sourceProducerId) this.#leftStage(before.sourceProducerId, slot);
      const { producerId, participantId, displayName } = slot;
      if (participantId !== null) this.#tellIfClear(slot, participantId);
      const offer = this.#offers.get(producerId);
      if (offer?.way !== 'slot') continue;
      changed.push(pairOf(offer));
      offer.participantId = participantId ?? offer.event.participantId;
      offer.source = sourceNamed(slot.source, slot.kind);
      changed.push({ ...pairOf(offer), displayName: displayName || undefined });
      const layers = this.#options.reception.layers(offer.participantId, offer.source);
      if (layers && offer.consumer) this.#layers.want(offer.consumer.id, layers).catch(ignore);
    }
    this.#show(changed);
    this.#reviewLater();
  }

  /** Who is on the stage; nobody in rooms without. */
  get onStage(): Slots {
    return this.#slots;
  }

  /** Those of a room with a stage, and all they send: what of it is looked at is received beside the stage. */
  listed(list: readonly ListedParticipant[]): void {
    if (this.#slots.isEmpty || this.#options.encryption) return;
    const changed: Pair[] = [];
    for (const { participantId, producers } of list) {
      const present = new Set(producers.map(({ producerId }) => producerId));
      for (const offer of [...this.#offers.values()]) {
        if (offer.way !== 'listed' || offer.participantId !== participantId) continue;
        if (present.has(offer.producerId) || offer.consumer || offer.isUnderWay) continue;
        this.#withdraw(offer);
        changed.push(pairOf(offer));
      }
      for (const { producerId, kind, source: name, paused, encrypted } of producers) {
        const source = sourceNamed(name, kind);
        // Screens are on stage, and what is encrypted is offered to everyone.
        if (encrypted || source.startsWith('screen')) continue;
        const offer =
          this.#offers.get(producerId) ??
          this.#add({ participantId, producerId, kind }, source, 'listed');
        if (!offer.consumer) offer.paused = paused;
        if (offer.way === 'listed') changed.push({ participantId, source });
      }
    }
    this.#show(changed);
    this.#reviewLater();
  }

  /** Whose pictures are looked at and not on stage: what they send may have changed unnoticed. */
  get lookedAt(): readonly string[] {
    if (this.#slots.isEmpty || this.#options.encryption) return [];
    const seen = new Set<string>();
    for (const offer of this.#offers.values()) {
      if (offer.way !== 'listed' && offer.source === 'camera') seen.add(offer.participantId);
    }
    return this.#options.reception.wanted('camera').filter((id) => !seen.has(id));
  }

  /** A producer is on a slot no more. If nobody is there now it stopped; else it goes on beside the stage. */
  #leftStage(sourceProducerId: string, now: StageSlot): void {
    const offer = this.#offers.get(sourceProducerId);
    if (offer?.way === 'listed' && !offer.consumer) offer.paused = now.participantId === null;
  }

  /** Who is seen by others on stage, and not by those who encrypt, is known to send in the clear. */
  #tellIfClear({ sourceProducerId: producerId }: StageSlot, participantId: string): void {
    if (!this.#options.encryption || producerId === null) return;
    const clear = { participantId, producerId, state: 'not-encrypted', salt: undefined } as const;
    this.#options.handlers.encryptionChanged(clear);
  }

  /** The stage has ended; all who are there are offered next, but what is received already. */
  #stageEnded(): void {
    const changed: Pair[] = [];
    for (const offer of [...this.#offers.values()]) {
      if (offer.way !== 'listed') continue;
      changed.push(pairOf(offer));
      if (offer.consumer || offer.isUnderWay) offer.way = 'offered';
      else this.#withdraw(offer);
    }
    this.#show(changed);
  }

  /** Tells what of each of these is the best there is. */
  #show(pairs: readonly Pair[]): void {
    const unique = new Map(pairs.map((pair) => [keyOf(pair), pair]));
    if (unique.size === 0) return;
    const best = new Map<string, Offer>();
    for (const offer of this.#offers.values()) {
      const key = keyOf(offer);
      if (unique.has(key) && worth(offer) >= worth(best.get(key))) best.set(key, offer);
    }
    const list: Shown[] = [];
    for (const [key, { participantId, source, displayName }] of unique) {
      if (isSlotName(participantId)) continue;
      const offer = best.get(key);
      const media = offer && {
        producerId: offer.producerId,
        paused: offer.way !== 'slot' && offer.paused,
        ...(offer.consumer ? { consumerId: offer.consumer.id, track: offer.consumer.track } : {}),
      };
      list.push({ participantId, displayName, source, media });
    }
    this.#options.handlers.shown(list);
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
      const { consumer, source, way } = offer;
      if (!consumer || chosen.has(offer.producerId)) continue;
      // What is put aside stays at hand while there is room; what is on another page of hundreds does not.
      const isOver = way !== 'slot' && this.#count(source) > places(source);
      if (isOver || way === 'listed') requests.push(this.#putBack(offer, consumer));
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
      if (offer.participantId !== participantId) continue;
      const owner = offer.event.participantId;
      // A slot stays when who is on it leaves.
      if (owner === participantId) this.#withdraw(offer);
      else offer.participantId = owner;
    }
    this.#reviewLater();
  }

  producerClosed(producerId: string): void {
    const offer = this.#offers.get(producerId);
    if (offer) this.#withdraw(offer);
    if (offer?.way === 'listed') this.#options.ended(offer.participantId);
    // Who encrypts receives none of the stage, and is told of it.
    if (this.#slots.delete(producerId) && this.#slots.isEmpty) this.#stageEnded();
    else if (offer && offer.way !== 'offered') this.#show([pairOf(offer)]);
    if (offer) this.#reviewLater();
  }

  /** Whose consumer that is: the producer. */
  producerOf(consumerId: string): string | undefined {
    return this.#offerOf(consumerId)?.producerId;
  }

  consumerPaused(consumerId: string, paused: boolean): void {
    const offer = this.#offerOf(consumerId);
    if (!offer) return;
    offer.paused = paused;
    if (offer.way === 'listed') this.#show([pairOf(offer)]);
    else if (offer.consumer && offer.way === 'offered')
      this.#options.handlers.pausedChanged(offer.producerId, paused);
  }

  /** Its transport is its owner's. */
  close(): void {
    this.#isClosed = true;
    this.#layers.clear();
  }

  /** What may be received: nobody twice, but while a stream of their own is on its way. */
  *#takeable(): Iterable<Offer> {
    const { reception } = this.#options;
    const [onStage, besides] = [new Set<string>(), new Set<string>()];
    for (const offer of this.#offers.values()) {
      if (offer.way === 'slot' && !offer.hasFailed) onStage.add(keyOf(offer));
      if (offer.way !== 'slot' && offer.isFlowing) besides.add(keyOf(offer));
    }
    for (const offer of this.#offers.values()) {
      const key = keyOf(offer);
      if (offer.hasFailed || (offer.way === 'slot' && besides.has(key))) continue;
      if (offer.way === 'listed') {
        const wish = reception.wish(offer.participantId, offer.source);
        if (!wish.isWanted) continue;
        // Whoever comes on stage while they are received keeps their stream: no picture is seen to jump.
        const isBesides = offer.consumer || offer.isUnderWay || wish.isSteady;
        if (!isBesides && onStage.has(key)) continue;
      }
      yield offer;
    }
  }

  #count(source: Source): number {
    let count = 0;
    for (const offer of this.#offers.values()) {
      if (
        offer.way !== 'slot' &&
        offer.consumer &&
        offer.event.kind === (isVideo(source) ? 'video' : 'audio')
      )
        count += 1;
    }
    return count;
  }

  async #receive(offer: Offer): Promise<void> {
    offer.isUnderWay = true;
    try {
      await this.#consume(offer);
    } catch (error) {
      offer.hasFailed = true;
      if (offer.way === 'listed') this.#options.ended(offer.participantId);
      if (this.#isClosed || offer.isWithdrawn) return;
      console.warn('opencall: a track cannot be received', error);
    } finally {
      offer.isUnderWay = false;
    }
    // What was chosen meanwhile counts, also where it was put back and is wanted again.
    if (!this.#isClosed && !offer.isWithdrawn && !offer.hasFailed) this.#reviewLater();
  }

  async #consume(offer: Offer): Promise<void> {
    const { channel, encryption, rtpCapabilities, transport, handlers, reception } = this.#options;
    const { producerId, event } = offer;
    const request = { producerId, rtpCapabilities };
    const answer: ConsumerData = await channel.request('consume', request);
    if (this.#isClosed || offer.isWithdrawn) return;
    offer.consumerId = answer.id;
    offer.paused = answer.producerPaused ?? false;
    const protection = openingOf(encryption, event, answer, this.#tell);
    const consumer = await transport.consume({
      id: answer.id,
      producerId,
      kind: answer.kind,
      rtpParameters: answer.rtpParameters,
      streamId: streamIdOf(event.participantId, offer.source),
      appData: { participantId: event.participantId },
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
    this.#awaitFlow(offer, consumer.track);
    const { participantId, source, displayName, paused } = offer;
    if (offer.way === 'offered') {
      const track = { participantId, displayName, source, producerId, consumerId: consumer.id };
      handlers.trackAdded({ ...track, track: consumer.track, paused });
    } else this.#show([pairOf(offer)]);
    const layers = reception.layers(participantId, source);
    if (layers) this.#layers.want(consumer.id, layers).catch(() => undefined);
    // Whoever was told of the track may have put it aside already.
    if (consumer.paused || consumer.closed) return;
    await channel.request('resumeConsumer', { consumerId: consumer.id });
  }

  /** A track is muted until its first packet. */
  #awaitFlow(offer: Offer, track: MediaStreamTrack): void {
    offer.isFlowing = offer.way !== 'listed' || !track.muted;
    if (offer.isFlowing) return;
    const flows = () => {
      if (offer.consumer?.track !== track) return;
      offer.isFlowing = true;
      this.#show([pairOf(offer)]);
      this.#reviewLater();
    };
    track.addEventListener('unmute', () => setTimeout(flows, FIRST_PICTURE_MS), { once: true });
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
    if (offer.way === 'offered') {
      this.#options.handlers.trackOffered({ participantId, source, producerId });
    } else this.#show([pairOf(offer)]);
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
    offer.isFlowing = false;
  }

  #offerOf(consumerId: string): Offer | undefined {
    for (const offer of this.#offers.values()) if (offer.consumerId === consumerId) return offer;
    return undefined;
  }
}

function ignore(): void {}

/**
 * One stream for each participant's person and one for their screen: lips stay with voices, and screens apart. Encoded,
 * because it becomes a word of the SDP.
 */
function streamIdOf(participantId: string, source: Source): string {
  const part = source.startsWith('screen') ? 'screen' : 'person';
  return `${encodeURIComponent(participantId)}-${part}`;
}
