import type { types } from 'mediasoup-client';
import { readAnnouncement } from '../e2ee/index';
import type { ServerEvents } from '../sdk/protocol';
import type { DataLinksOptions } from './dataLinks';
import type { FileChannel } from './files/types';
import { openProducer } from './openProducer';
import { isId } from './wire';

/** Of the data channel of one file, which its owner makes when someone wants it. */
const FILE_LABEL = 'opencall.file';
const FILE_PROTOCOL = 'opencall.file.1';

/** Channels with files that are remembered, for when they are wanted. */
const MAX_OFFERED = 1_000;

type Bytes = Uint8Array<ArrayBuffer>;

interface Offered {
  readonly from: string;
  readonly file: string;
  readonly salt: Bytes | undefined;
  consumer: types.DataConsumer | undefined;
  consumerId: string | undefined;
  ended: (() => void) | undefined;
}

/** The channels of files in one session: each has its own, which only those take who want the file. */
export class FileLinks {
  readonly #options: DataLinksOptions;
  /** By data producer. */
  readonly #offered = new Map<string, Offered>();

  constructor(options: DataLinksOptions) {
    this.#options = options;
  }

  /** Someone made a channel; `true` if it is one of a file. */
  offered(event: ServerEvents['newDataProducer']): boolean {
    const { participantId: from, dataProducerId, label, protocol, appData } = event;
    if (label !== FILE_LABEL || protocol !== FILE_PROTOCOL) return false;
    const salt = readAnnouncement(appData);
    const file = appData?.file;
    const isFitting = (this.#options.encryption !== undefined) === (salt !== undefined);
    if (!isFitting || !isId(file) || this.#offered.size >= MAX_OFFERED) return true;
    const none = { consumer: undefined, consumerId: undefined, ended: undefined };
    this.#offered.set(dataProducerId, { from, file, salt, ...none });
    this.#options.handlers.fileChannelFound(from, file);
    return true;
  }

  producerClosed(dataProducerId: string): void {
    const offered = this.#offered.get(dataProducerId);
    if (!offered) return;
    this.#offered.delete(dataProducerId);
    this.#end(offered);
  }

  /** Who cannot keep up is cut off, and may take the channel again. */
  consumerClosed(dataConsumerId: string): void {
    for (const offered of this.#offered.values()) {
      if (offered.consumerId === dataConsumerId) this.#end(offered);
    }
  }

  close(): void {
    this.#offered.clear();
  }

  /** Makes a channel for an own file. */
  async open(file: string): Promise<FileChannel> {
    const { channel, send, encryption } = this.#options;
    const producer = await openProducer(send, channel, {
      label: FILE_LABEL,
      protocol: FILE_PROTOCOL,
      ordered: true,
      appData: { file, ...encryption?.announce() },
    });
    return {
      producer,
      seal: async (message) =>
        encryption ? encryption.sealMessage(sourceOf(file), message) : message,
      close: () => {
        if (producer.closed) return;
        producer.close();
        const { id: dataProducerId } = producer;
        channel.request('closeDataProducer', { dataProducerId }).catch(() => undefined);
      },
    };
  }

  /** Takes someone's channel with a file; `undefined` if there is none. The function that is returned gives it up. */
  async take(
    from: string,
    file: string,
    received: (message: Bytes) => void,
    ended: () => void,
  ): Promise<(() => void) | undefined> {
    const found = [...this.#offered].find(([, one]) => one.from === from && one.file === file);
    if (!found || found[1].consumerId) return undefined;
    const [dataProducerId, offered] = found;
    const { channel, recv } = this.#options;
    const { appData = {}, ...data } = await channel.request('consumeData', { dataProducerId });
    const isGone = () => recv.closed || this.#offered.get(dataProducerId) !== offered;
    if (isGone()) return undefined;
    offered.consumerId = data.id;
    const consumer = await recv.consumeData({ ...data, appData });
    if (isGone() || offered.consumerId !== data.id) {
      consumer.close();
      return undefined;
    }
    offered.consumer = consumer;
    offered.ended = ended;
    consumer.binaryType = 'arraybuffer';
    consumer.on('message', (message: unknown) => {
      if (message instanceof ArrayBuffer) this.#open(offered, new Uint8Array(message), received);
    });
    return () => {
      if (offered.consumer !== consumer) return;
      offered.ended = undefined;
      this.#end(offered);
      channel.request('closeDataConsumer', { dataConsumerId: data.id }).catch(() => undefined);
    };
  }

  #open({ from, file, salt }: Offered, message: Bytes, received: (message: Bytes) => void): void {
    const { encryption } = this.#options;
    if (!encryption || !salt) return received(message);
    const stream = { participantId: from, salt, source: sourceOf(file) };
    encryption.openMessage(stream, message).then(
      (opened) => {
        // What cannot be opened is asked for again.
        if ('frame' in opened) received(opened.frame);
        else this.#options.handlers.messageDropped();
      },
      () => undefined,
    );
  }

  #end(offered: Offered): void {
    const { consumer, ended } = offered;
    offered.consumer = undefined;
    offered.consumerId = undefined;
    offered.ended = undefined;
    consumer?.close();
    ended?.();
  }
}

/** Part of the keys: a chunk of one file is none of another. */
function sourceOf(file: string): string {
  return `file/${file}`;
}
