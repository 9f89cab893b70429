import type { types } from 'mediasoup-client';
import { MeetingError } from '../sdk/errors';

/** A channel that does not open within this long is given up. */
const OPEN_TIMEOUT_MS = 10_000;

/** Makes a data producer, and waits until it is open. */
export async function openProducer(
  transport: types.Transport,
  options: types.DataProducerOptions,
): Promise<types.DataProducer> {
  const producer = await transport.produceData(options);
  if (producer.readyState === 'open') return producer;
  return new Promise((resolve, reject) => {
    const fail = () => {
      clearTimeout(timer);
      producer.close();
      reject(new MeetingError('request-timed-out', 'Messages cannot be sent.'));
    };
    const timer = setTimeout(fail, OPEN_TIMEOUT_MS);
    producer.once('open', () => {
      clearTimeout(timer);
      resolve(producer);
    });
    producer.once('transportclose', fail);
    producer.once('close', fail);
  });
}
