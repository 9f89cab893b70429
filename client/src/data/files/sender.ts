import type { types } from 'mediasoup-client';
import type { Bytes } from '../../e2ee/bytes';
import type { FileChannel } from './types';

/** What waits in the browser: enough to keep a fast path busy, little to wait for when it is given up. */
const HIGH_WATER_BYTES = 1024 * 1024;
const LOW_WATER_BYTES = 512 * 1024;

/** Sends one's own file by its channel, no faster than the path takes it. */
export class FileSender {
  readonly #channel: FileChannel;

  constructor(channel: FileChannel) {
    this.#channel = channel;
    channel.producer.bufferedAmountLowThreshold = LOW_WATER_BYTES;
  }

  get isClosed(): boolean {
    return this.#channel.producer.closed;
  }

  /** Sends a message when the browser has room; rejects if the channel is gone. */
  async send(message: Bytes): Promise<void> {
    const { producer } = this.#channel;
    await hasRoom(producer);
    const sealed = await this.#channel.seal(message);
    if (!sealed) throw new Error('there is no key');
    producer.send(sealed);
  }

  close(): void {
    this.#channel.close();
  }
}

/** Resolves when little waits to be sent; rejects if the channel is closed. */
function hasRoom(producer: types.DataProducer): Promise<void> {
  const closed = () => new Error('the channel was closed');
  if (producer.closed) return Promise.reject(closed());
  if (producer.bufferedAmount <= HIGH_WATER_BYTES) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const done = () => {
      for (const name of ['bufferedamountlow', 'close', 'transportclose'] as const) {
        producer.off(name, done);
      }
      producer.observer.off('close', done);
      if (producer.closed) reject(closed());
      else resolve();
    };
    for (const name of ['bufferedamountlow', 'close', 'transportclose'] as const) {
      producer.on(name, done);
    }
    producer.observer.on('close', done);
  });
}
