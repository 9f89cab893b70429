import type { types } from 'mediasoup-client';
import { concat, utf8 } from '../e2ee/bytes';
import { codecOf } from '../e2ee/codecs';
import {
  canEncrypt,
  Encryption,
  type FrameCounts,
  type MessageStream,
  readAnnouncement,
} from '../e2ee/index';
import { MeetingError } from '../sdk/errors';
import { sourceOf } from '../sdk/participants';
import type { ConsumerData, DataConsumerData } from '../sdk/protocol';
import {
  MediasoupService,
  type MediasoupServiceStats,
  type ProduceDataOptions,
  type ProduceOptions,
  type SendMessage,
} from './MediasoupService';

/** How to encrypt. */
export interface EncryptionConfig {
  enableE2E: boolean;
  /**
   * Milliseconds after which there is a new key, which `keyRotation` brings. For one participant of a meeting: a key is
   * all participants'. Without it the key that was set stays.
   */
  keyRotationInterval?: number;
  /** AES-GCM. AES-CTR does not authenticate what it encrypts, and is refused. */
  encryptionAlgorithm?: 'AES-GCM' | 'AES-CTR';
  sendMessage?: SendMessage;
  /** Starts the bundled worker in another way. */
  createWorker?: () => Worker;
}

/** Bytes of a key that is drawn here. */
const KEY_BYTES = 32;

/** Keys that came before their consumers. */
const MAX_EARLY_KEYS = 1_000;

/** In front of a sealed message: what it was, text or bytes. */
const TEXT = 0;
const BYTES = 1;

/** Part of key derivation; the key is what is secret, and each sender session draws a salt of its own. */
const IDENTITY = { meetingId: 'opencall', participantId: 'sender' };

/**
 * A service whose media are encrypted end to end, by SFrame (RFC 9605). Until a key is set nothing is sent and nothing
 * played; what comes in the clear is refused.
 */
export class EncryptedMediasoupService extends MediasoupService {
  readonly #config: EncryptionConfig;
  #encryption: Promise<Encryption> | undefined;
  #rotation: ReturnType<typeof setInterval> | undefined;
  /** Of consumers, media and data, that are received: what their keys are for. */
  readonly #streams = new Map<string, MessageStream>();
  /** Of consumers to come. */
  readonly #earlyKeys = new Map<string, Uint8Array<ArrayBuffer>>();
  /** One message of a channel after the other is opened. */
  readonly #opened = new Map<string, Promise<void>>();
  #keyId: string | undefined;
  #hasStopped = false;

  constructor(config: EncryptionConfig = { enableE2E: true }) {
    super(config.sendMessage ? { sendMessage: config.sendMessage } : {});
    if (config.encryptionAlgorithm === 'AES-CTR') {
      throw new MeetingError(
        'encryption-unsupported',
        'AES-CTR does not protect media from being changed. Use AES-GCM.',
      );
    }
    this.#config = config;
  }

  override async produce(track: MediaStreamTrack, options: ProduceOptions = {}) {
    if (!this.#config.enableE2E) return super.produce(track, options);
    const encryption = await this.#running();
    // The one who rotates keys begins with one.
    if (!this.#keyId && this.#rotation) await this.#rotate();
    const codec = options.codec ?? this.firstCodec(track.kind);
    const sealable = codecOf(codec?.mimeType);
    if (!codec || !sealable) {
      throw unsupported(`Media in ${codec?.mimeType ?? 'an unknown codec'} cannot be encrypted.`);
    }
    const source = sourceOf(track.kind === 'audio' ? 'audio' : 'video', options.appData ?? {});
    let isOn = false;
    const producer = await super.produce(track, {
      ...options,
      codec,
      appData: { ...options.appData, ...encryption.announce() },
      onRtpSender: (sender) => {
        encryption.protectSender(sender, source, sealable);
        isOn = true;
      },
    });
    if (isOn) return producer;
    producer.close();
    throw unsupported('This browser gives no way to encrypt what it sends. Nothing was sent.');
  }

  override async consume(data: ConsumerData): Promise<types.Consumer> {
    const salt = readAnnouncement(data.appData);
    if (!this.#config.enableE2E) {
      if (data.appData?.e2ee) throw unsupported('This track is encrypted, and you are not.');
      return super.consume(data);
    }
    if (!salt) throw unsupported('This track is not encrypted, and therefore not played.');
    const codec = codecOf(data.rtpParameters.codecs[0]?.mimeType);
    if (!codec) throw unsupported('An unknown codec is not played.');
    const encryption = await this.#running();
    const source = sourceOf(data.kind, data.appData ?? {});
    const stream = { participantId: IDENTITY.participantId, source, salt };
    const track = { ...stream, codec, onState: () => undefined };
    await this.#keepStream(data.id, stream, encryption);
    let release: (() => void) | undefined;
    const consumer = await super.consume(data, {
      onRtpReceiver: (receiver) => {
        release = encryption.protectReceiver(receiver, track);
      },
    });
    if (release) consumer.observer.once('close', release);
    consumer.observer.once('close', () => this.#streams.delete(data.id));
    return consumer;
  }

  /** What is sent on it is encrypted, in the order of the calls. */
  override async produceData(options: ProduceDataOptions = {}): Promise<types.DataProducer> {
    if (!this.#config.enableE2E) return super.produceData(options);
    const encryption = await this.#running();
    const appData = { ...options.appData, ...encryption.announce() };
    const producer = await super.produceData({ ...options, appData });
    const send = producer.send.bind(producer);
    const source = dataSource(producer.label);
    let sent: Promise<void> = Promise.resolve();
    producer.send = (message: unknown) => {
      const plain = pack(message);
      sent = sent
        .then(async () => {
          const sealed = await encryption.sealMessage(source, plain);
          if (!sealed) throw new Error('there is no key');
          send(sealed);
        })
        .catch((error) => console.error('opencall: a message was not sent', error));
    };
    return producer;
  }

  /** Messages that can be opened come as `dataConsumer:message`; on the consumer itself they are sealed. */
  override async consumeData(data: DataConsumerData): Promise<types.DataConsumer> {
    const salt = readAnnouncement(data.appData);
    if (!this.#config.enableE2E) {
      if (data.appData?.e2ee) throw unsupported('This channel is encrypted, and you are not.');
      return super.consumeData(data);
    }
    if (!salt) throw unsupported('This channel is not encrypted, and therefore not heard.');
    const source = dataSource(data.label);
    const stream = { participantId: IDENTITY.participantId, source, salt };
    await this.#keepStream(data.id, stream, await this.#running());
    const consumer = await super.consumeData(data);
    consumer.binaryType = 'arraybuffer';
    consumer.observer.once('close', () => {
      this.#streams.delete(data.id);
      this.#opened.delete(data.id);
    });
    return consumer;
  }

  protected override dataReceived(data: DataConsumerData, message: unknown): void {
    if (!this.#config.enableE2E) return super.dataReceived(data, message);
    const stream = this.#streams.get(data.id);
    if (!stream || !(message instanceof ArrayBuffer)) return;
    const before = this.#opened.get(data.id) ?? Promise.resolve();
    const opened = before.then(async () => {
      const encryption = await this.#running();
      const result = await encryption.openMessage(stream, new Uint8Array(message));
      if ('frame' in result) super.dataReceived(data, unpack(result.frame));
    });
    this.#opened.set(
      data.id,
      opened.catch(() => undefined),
    );
  }

  /**
   * Takes a key, from `keyRotation` of another participant: for what is received and for what is sent, or, with the id of
   * a consumer, media or data, for what it receives alone. The one before opens for ten seconds more.
   */
  async setDecryptionKey(keyId: string, data: BufferSource, consumerId?: string): Promise<void> {
    const encryption = await this.#running();
    const bytes = bytesOf(data);
    if (consumerId === undefined) {
      await encryption.setSecret({ kind: 'key', bytes });
      this.#keyId = keyId;
      return;
    }
    const stream = this.#streams.get(consumerId);
    if (stream) return encryption.setStreamSecret(stream, { kind: 'key', bytes });
    if (this.#earlyKeys.size < MAX_EARLY_KEYS) this.#earlyKeys.set(consumerId, bytes);
  }

  override async getStats(): Promise<
    MediasoupServiceStats & {
      encryption: { currentKeyId: string | undefined; frames?: FrameCounts };
    }
  > {
    const stats = await super.getStats();
    const frames = this.#encryption && (await (await this.#encryption).counts());
    return { ...stats, encryption: { currentKeyId: this.#keyId, ...(frames ? { frames } : {}) } };
  }

  override close(): void {
    this.#hasStopped = true;
    clearInterval(this.#rotation);
    this.#rotation = undefined;
    super.close();
    this.#encryption?.then((encryption) => encryption.close()).catch(() => undefined);
    this.#encryption = undefined;
    this.#keyId = undefined;
    this.#streams.clear();
    this.#earlyKeys.clear();
    this.#opened.clear();
  }

  override async initialize(routerRtpCapabilities: types.RtpCapabilities): Promise<void> {
    this.#hasStopped = false;
    if (this.#config.enableE2E) await this.#running();
    await super.initialize(routerRtpCapabilities);
    if (!this.#hasStopped) this.#startRotating();
  }

  #startRotating(): void {
    const { enableE2E, keyRotationInterval } = this.#config;
    if (!enableE2E || !keyRotationInterval) return;
    this.#rotation ??= setInterval(() => {
      this.#rotate().catch((error) => console.error('opencall: the key stays', error));
    }, keyRotationInterval);
  }

  async #keepStream(id: string, stream: MessageStream, encryption: Encryption): Promise<void> {
    this.#streams.set(id, stream);
    const bytes = this.#earlyKeys.get(id);
    this.#earlyKeys.delete(id);
    if (bytes) await encryption.setStreamSecret(stream, { kind: 'key', bytes });
  }

  /** Where encryption is on and this browser cannot, it says so. */
  #running(): Promise<Encryption> {
    if (this.#hasStopped) return Promise.reject(new Error('this service was closed'));
    if (!canEncrypt()) {
      return Promise.reject(
        unsupported('This browser cannot encrypt end to end. Use a current one, over https.'),
      );
    }
    this.#encryption ??= this.#start();
    return this.#encryption;
  }

  #start(): Promise<Encryption> {
    const { createWorker } = this.#config;
    const options = createWorker ? { createWorker } : {};
    const starting = Encryption.start(options, IDENTITY, (reason) => {
      console.error('opencall: encryption stopped working', reason);
      this.close();
    });
    starting.catch(() => {
      // Whoever tries again, once the network is back for example, has another.
      if (this.#encryption === starting) this.#encryption = undefined;
    });
    return starting;
  }

  async #rotate(): Promise<void> {
    const key = crypto.getRandomValues(new Uint8Array(KEY_BYTES));
    const keyId = String(Date.now());
    await this.setDecryptionKey(keyId, key);
    this.emit('keyRotation', { keyId, key: key.slice().buffer });
  }
}

function unsupported(words: string): MeetingError {
  return new MeetingError('encryption-unsupported', words);
}

function bytesOf(data: BufferSource): Uint8Array<ArrayBuffer> {
  return data instanceof ArrayBuffer
    ? new Uint8Array(data.slice(0))
    : Uint8Array.from(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

/** Part of the keys: a message of one channel is none of another. */
function dataSource(label: string): string {
  return `data/${label}`;
}

function pack(message: unknown): Uint8Array<ArrayBuffer> {
  if (typeof message === 'string') return concat(Uint8Array.of(TEXT), utf8(message));
  if (message instanceof ArrayBuffer || ArrayBuffer.isView(message)) {
    return concat(Uint8Array.of(BYTES), bytesOf(message as BufferSource));
  }
  throw new TypeError('Only text and bytes can be encrypted.');
}

function unpack(plain: Uint8Array<ArrayBuffer>): string | ArrayBuffer {
  const content = plain.slice(1);
  return plain[0] === TEXT ? new TextDecoder().decode(content) : content.buffer;
}
