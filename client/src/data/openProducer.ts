import type { types } from 'mediasoup-client';
import { MeetingError } from '../sdk/errors';
import type { SignalingChannel } from '../sdk/signaling';

/** A channel that does not open within this long is given up. */
const OPEN_TIMEOUT_MS = 10_000;

/** Makes a data producer, and waits until it is open. One that does not open is closed, at the server too. */
export async function openProducer(
  transport: types.Transport,
  channel: SignalingChannel,
  options: types.DataProducerOptions,
): Promise<types.DataProducer> {
  const producer = await transport.produceData(options);
  if (producer.readyState === 'open') return producer;
  return new Promise((resolve, reject) => {
    const fail = () => {
      clearTimeout(timer);
      closeProducer(producer, channel);
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

/** The others hear of it, and its stream can be used again. What is closed already the server knows of. */
function closeProducer(producer: types.DataProducer, channel: SignalingChannel): void {
  if (producer.closed) return;
  producer.close();
  const { id: dataProducerId } = producer;
  channel.request('closeDataProducer', { dataProducerId }).catch(() => undefined);
}
