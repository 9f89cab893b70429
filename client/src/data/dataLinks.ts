import type { types } from 'mediasoup-client';
import { type Encryption, readAnnouncement } from '../e2ee/index';
import { TrackWatch } from '../e2ee/trackState';
import { MeetingError } from '../sdk/errors';
import type { TrackEncryption } from '../sdk/opening';
import type { ServerEvents } from '../sdk/protocol';
import type { SignalingChannel } from '../sdk/signaling';
import { Timers } from '../timers';
import { FileLinks } from './fileLinks';
import { openProducer } from './openProducer';
import { ROOM_LABEL, ROOM_PROTOCOL } from './wire';

/** Who waits to have this much sent is told that it is too much. */
const MAX_BUFFERED_BYTES = 4 * 1024 * 1024;

/** A reader that was cut off for being slow tries again after so long… */
const RETRY_MS = 1_000;

/** …so many times, in one session. */
const MAX_RETRIES = 5;

/** Part of the keys that messages are sealed with. */
const ROOM_SOURCE = 'data';

/** What data links tell their owner. */
export interface DataHandlers {
  /** Bytes that a participant sent to all, in the order in which it sent them. */
  messageReceived(participantId: string, message: Uint8Array): void;
  /** A message came that cannot be opened. */
  messageDropped(): void;
  /** A participant has begun to send messages, now or before this end came. */
  talkerFound(participantId: string, isNew: boolean): void;
  /** This end's own channel is open: what is sent now may be missed by who has not yet taken it. */
  talkingBegan(): void;
  /** There is a channel with a file of a participant. */
  fileChannelFound(participantId: string, file: string): void;
  encryptionChanged(encryption: TrackEncryption): void;
}

/** What data links need of their session. */
export interface DataLinksOptions {
  channel: SignalingChannel;
  send: types.Transport;
  recv: types.Transport;
  /** All is sealed by it, and what is not sealed is not taken. */
  encryption: Encryption | undefined;
  handlers: DataHandlers;
}

interface Talker {
  readonly participantId: string;
  readonly dataProducerId: string;
  /** Of its sender session, where messages are sealed. */
  readonly salt: Uint8Array<ArrayBuffer> | undefined;
  readonly watch: TrackWatch;
  consumer: types.DataConsumer | undefined;
  consumerId: string | undefined;
  retries: number;
  isGone: boolean;
  /** One message after the other is opened. */
  opened: Promise<void>;
}

/** The room channels of one session: one's own, made with the first message, and those of the others. */
export class DataLinks {
  readonly files: FileLinks;
  readonly #options: DataLinksOptions;
  readonly #talkers = new Map<string, Talker>();
  readonly #timers = new Timers();
  #producer: Promise<types.DataProducer> | undefined;
  #isTalking = false;
  /** One message after the other is sealed. */
  #sent: Promise<unknown> = Promise.resolve();

  constructor(options: DataLinksOptions) {
    this.#options = options;
    this.files = new FileLinks(options);
  }

  /** Whether others take this end's messages. */
  get isTalking(): boolean {
    return this.#isTalking;
  }

  /** Sends to everyone, in the order of the calls. Resolves when the browser has the message. */
  send(message: Uint8Array<ArrayBuffer>): Promise<void> {
    const sent = this.#sent.then(() => this.#send(message));
    this.#sent = sent.catch(() => undefined);
    return sent;
  }

  /** Someone opened a channel. `isNew`: after this end came. */
  offered(event: ServerEvents['newDataProducer'], isNew: boolean): void {
    const { participantId, dataProducerId, label, protocol } = event;
    if (this.files.offered(event)) return;
    if (label !== ROOM_LABEL || protocol !== ROOM_PROTOCOL) return;
    const { encryption, handlers } = this.#options;
    const salt = readAnnouncement(event.appData);
    // What is not encrypted is not taken where all is to be, and what is cannot be read elsewhere.
    if ((encryption !== undefined) !== (salt !== undefined)) return;
    // One of each: nobody fills the places of others with channels.
    for (const known of this.#talkers.values()) {
      if (known.participantId === participantId) this.#drop(known);
    }
    const talker: Talker = {
      ...{ participantId, dataProducerId, salt, watch: new TrackWatch() },
      ...{ consumer: undefined, consumerId: undefined, retries: 0, isGone: false },
      opened: Promise.resolve(),
    };
    this.#talkers.set(dataProducerId, talker);
    this.#noteEncryption(talker, 'pending');
    handlers.talkerFound(participantId, isNew);
    this.#listen(talker);
  }

  producerClosed(dataProducerId: string): void {
    this.files.producerClosed(dataProducerId);
    const talker = this.#talkers.get(dataProducerId);
    if (!talker) return;
    // Its consumer is closed by the server, too.
    talker.consumerId = undefined;
    this.#drop(talker);
  }

  /** The server closed a channel from a talker: who cannot keep up is cut off, and may begin again. */
  consumerClosed(dataConsumerId: string): void {
    this.files.consumerClosed(dataConsumerId);
    const talker = [...this.#talkers.values()].find((one) => one.consumerId === dataConsumerId);
    if (!talker) return;
    talker.consumer?.close();
    talker.consumer = undefined;
    talker.consumerId = undefined;
    this.#retry(talker);
  }

  close(): void {
    this.files.close();
    this.#timers.clear();
    for (const talker of this.#talkers.values()) talker.isGone = true;
    this.#talkers.clear();
  }

  /** Makes this end's channel, if there is none. Rejects with words if nothing can be sent now. */
  async ready(): Promise<void> {
    const { encryption } = this.#options;
    if (encryption && !encryption.hasSecret) throw keyMissing();
    const { bufferedAmount } = await this.#opened();
    if (bufferedAmount > MAX_BUFFERED_BYTES) {
      const words = 'Too much is waiting to be sent. The message was not sent.';
      throw new MeetingError('request-refused', words);
    }
  }

  async #send(message: Uint8Array<ArrayBuffer>): Promise<void> {
    const { encryption } = this.#options;
    const sealed = encryption ? await encryption.sealMessage(ROOM_SOURCE, message) : message;
    if (!sealed) throw keyMissing();
    (await this.#opened()).send(sealed);
  }

  /** One's own channel. One that was closed, or could not be opened, is made anew. */
  async #opened(): Promise<types.DataProducer> {
    const opening = this.#producer ?? this.#open();
    this.#producer = opening;
    const producer = await opening.catch((error) => {
      if (this.#producer === opening) this.#producer = undefined;
      throw error;
    });
    if (!producer.closed) return producer;
    if (this.#producer === opening) this.#producer = undefined;
    throw new MeetingError('server-gone', 'The channel was closed.');
  }

  async #open(): Promise<types.DataProducer> {
    const { channel, send, encryption, handlers } = this.#options;
    const producer = await openProducer(send, channel, {
      label: ROOM_LABEL,
      protocol: ROOM_PROTOCOL,
      ordered: true,
      appData: { ...encryption?.announce() },
    });
    this.#isTalking = true;
    handlers.talkingBegan();
    return producer;
  }

  #listen(talker: Talker): void {
    this.#consume(talker).catch((error) => {
      if (talker.isGone || this.#options.recv.closed) return;
      // Whoever has just left has closed the channel, too.
      console.info('opencall: messages of a participant cannot be received', error);
    });
  }

  async #consume(talker: Talker): Promise<void> {
    const { channel, recv } = this.#options;
    const { dataProducerId } = talker;
    const { appData = {}, ...data } = await channel.request('consumeData', { dataProducerId });
    if (recv.closed || talker.isGone) return;
    talker.consumerId = data.id;
    const consumer = await recv.consumeData({ ...data, appData });
    if (talker.isGone || talker.consumerId !== data.id) return consumer.close();
    talker.consumer = consumer;
    consumer.binaryType = 'arraybuffer';
    consumer.on('message', (message: unknown) => {
      if (message instanceof ArrayBuffer) this.#receive(talker, new Uint8Array(message));
      else this.#options.handlers.messageDropped();
    });
  }

  #receive(talker: Talker, message: Uint8Array<ArrayBuffer>): void {
    const { encryption, handlers } = this.#options;
    const { participantId, salt } = talker;
    if (!encryption || !salt) return handlers.messageReceived(participantId, message);
    const stream = { participantId, salt, source: ROOM_SOURCE };
    talker.opened = talker.opened.then(async () => {
      const opened = await encryption.openMessage(stream, message).catch(() => undefined);
      if (!opened || talker.isGone) return;
      const state = talker.watch.note(opened);
      if (state) this.#noteEncryption(talker, state);
      if ('frame' in opened) handlers.messageReceived(participantId, opened.frame);
      else handlers.messageDropped();
    });
  }

  #drop(talker: Talker): void {
    const { consumerId: dataConsumerId, dataProducerId } = talker;
    talker.isGone = true;
    talker.consumer?.close();
    this.#talkers.delete(dataProducerId);
    if (!dataConsumerId) return;
    this.#options.channel.request('closeDataConsumer', { dataConsumerId }).catch(() => undefined);
  }

  #retry(talker: Talker): void {
    if (talker.retries >= MAX_RETRIES) return;
    talker.retries += 1;
    this.#timers.after(RETRY_MS * talker.retries, () => {
      if (!talker.isGone) this.#listen(talker);
    });
  }

  #noteEncryption(talker: Talker, state: TrackEncryption['state']): void {
    const { participantId, dataProducerId: producerId, salt } = talker;
    if (!salt) return;
    this.#options.handlers.encryptionChanged({ participantId, producerId, state, salt });
  }
}

function keyMissing(): MeetingError {
  return new MeetingError('request-refused', 'There is no key yet. The message was not sent.');
}
