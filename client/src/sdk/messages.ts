import type { types } from 'mediasoup-client';
import { MeetingError } from './errors';
import type { ServerEvents } from './protocol';
import type { SignalingChannel } from './signaling';

/** The channel that this SDK's messages go over; those of other applications are theirs. */
const LABEL = 'chat';
const PROTOCOL = 'json';

/** Longest message, bytes as JSON: what every browser takes in one piece. */
const MAX_MESSAGE_BYTES = 16_384;

/** A channel that does not open within this long is given up. */
const OPEN_TIMEOUT_MS = 10_000;

/** A message of another participant, as JSON says it. */
export interface Message {
  participantId: string;
  message: unknown;
}

/** What messages need of their session. */
export interface MessagesOptions {
  channel: SignalingChannel;
  send: types.Transport;
  recv: types.Transport;
  received(message: Message): void;
}

/** Messages between the participants, over data channels: reliable and in order. */
export class Messages {
  readonly #options: MessagesOptions;
  #producer: Promise<types.DataProducer> | undefined;

  constructor(options: MessagesOptions) {
    this.#options = options;
  }

  /** Sends to everyone in the meeting; opens the channel with the first message. */
  async send(message: unknown): Promise<void> {
    const text = JSON.stringify(message) ?? 'null';
    if (new TextEncoder().encode(text).length > MAX_MESSAGE_BYTES) {
      throw new MeetingError('request-refused', 'The message is too long, and was not sent.');
    }
    this.#producer ??= this.#open();
    try {
      const producer = await this.#producer;
      if (producer.closed) throw new MeetingError('server-gone', 'The channel was closed.');
      producer.send(text);
    } catch (error) {
      this.#producer = undefined;
      throw error;
    }
  }

  /** Someone opened a channel. */
  offered({ participantId, dataProducerId, label, protocol }: ServerEvents['newDataProducer']) {
    if (label !== LABEL || protocol !== PROTOCOL) return;
    this.#receive(participantId, dataProducerId).catch((error) =>
      console.warn('opencall: messages cannot be received', error),
    );
  }

  async #receive(participantId: string, dataProducerId: string): Promise<void> {
    const { channel, recv, received } = this.#options;
    const { appData = {}, ...data } = await channel.request('consumeData', { dataProducerId });
    if (recv.closed) return;
    const consumer = await recv.consumeData({ ...data, appData });
    consumer.on('message', (text: unknown) => {
      if (typeof text !== 'string') return;
      try {
        received({ participantId, message: JSON.parse(text) });
      } catch {
        console.warn('opencall: a message is no JSON');
      }
    });
  }

  async #open(): Promise<types.DataProducer> {
    const options = { label: LABEL, protocol: PROTOCOL, ordered: true };
    const producer = await this.#options.send.produceData(options);
    if (producer.readyState === 'open') return producer;
    return new Promise((resolve, reject) => {
      const fail = () => reject(new MeetingError('request-timed-out', 'Messages cannot be sent.'));
      const timer = setTimeout(fail, OPEN_TIMEOUT_MS);
      producer.once('open', () => {
        clearTimeout(timer);
        resolve(producer);
      });
      producer.once('close', fail);
      producer.once('transportclose', fail);
    });
  }
}
