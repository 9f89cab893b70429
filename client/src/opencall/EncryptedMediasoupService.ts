import type { types } from 'mediasoup-client';
import { codecOf } from '../e2ee/codecs';
import { canEncrypt, Encryption, type FrameCounts, readAnnouncement } from '../e2ee/index';
import { MeetingError } from '../sdk/errors';
import { sourceOf } from '../sdk/participants';
import type { ConsumerData } from '../sdk/protocol';
import {
  MediasoupService,
  type MediasoupServiceStats,
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
    const { enableE2E, keyRotationInterval } = config;
    if (!enableE2E || !keyRotationInterval) return;
    this.#rotation = setInterval(() => {
      this.#rotate().catch((error) => console.error('opencall: the key stays', error));
    }, keyRotationInterval);
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
    const track = {
      participantId: IDENTITY.participantId,
      source: sourceOf(data.kind, data.appData ?? {}),
      salt,
      codec,
      onState: () => undefined,
    };
    let release: (() => void) | undefined;
    const consumer = await super.consume(data, {
      onRtpReceiver: (receiver) => {
        release = encryption.protectReceiver(receiver, track);
      },
    });
    if (release) consumer.observer.once('close', release);
    return consumer;
  }

  /**
   * Takes a key, from `keyRotation` of another participant: for what is received and for what is sent. The one before
   * opens frames for ten seconds more. One key is all participants', so `consumerId` changes nothing.
   */
  async setDecryptionKey(keyId: string, data: BufferSource, _consumerId?: string): Promise<void> {
    const encryption = await this.#running();
    await encryption.setSecret({ kind: 'key', bytes: bytesOf(data) });
    this.#keyId = keyId;
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
  }

  override async initialize(routerRtpCapabilities: types.RtpCapabilities): Promise<void> {
    this.#hasStopped = false;
    if (this.#config.enableE2E) await this.#running();
    await super.initialize(routerRtpCapabilities);
  }

  /** Where encryption is on and this browser cannot, it says so. */
  #running(): Promise<Encryption> {
    if (this.#hasStopped) return Promise.reject(new Error('this service was closed'));
    if (!canEncrypt()) {
      return Promise.reject(
        unsupported('This browser cannot encrypt end to end. Use a current one, over https.'),
      );
    }
    const { createWorker } = this.#config;
    const options = createWorker ? { createWorker } : {};
    this.#encryption ??= Encryption.start(options, IDENTITY, (reason) => {
      console.error('opencall: encryption stopped working', reason);
      this.close();
    });
    return this.#encryption;
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
