import type { Device, types } from 'mediasoup-client';
import { codecOf } from '../e2ee/codecs';
import type { Encryption } from '../e2ee/index';
import { encodingsOf, voiceOptions } from './codecAdvice';
import { CAMERA_ENCODINGS, SCREEN_AUDIO_CODEC, SCREEN_ENCODINGS, VIDEO_CODEC } from './encodings';
import { MeetingError } from './errors';
import type { Source } from './participants';
import type { AppData, CodecAdvice } from './protocol';
import { SentLayers } from './sentLayers';
import type { SignalingChannel } from './signaling';

/** Voices that repeat themselves (RED), where this browser knows it; elsewhere they are plain. */
export type Redundancy = Awaited<ReturnType<typeof loadRedundancy>>;

/** Loads what repeats voices, where the browser can. */
export async function loadRedundancy() {
  const codecs = globalThis.RTCRtpReceiver?.getCapabilities?.('audio')?.codecs ?? [];
  if (!codecs.some(({ mimeType }) => mimeType.toLowerCase() === 'audio/red')) return undefined;
  return import('./redundancy').catch(() => undefined);
}

/** What to publish. */
export interface Publication {
  source: Source;
  track: MediaStreamTrack;
  paused: boolean;
  appData: AppData;
  /** For example `video/VP9`; otherwise the first that both sides know. */
  mimeType?: string | undefined;
}

/** What a publisher works with. */
export interface PublisherOptions {
  channel: SignalingChannel;
  device: Device;
  /** To the server. It is its owner's. */
  transport: types.Transport;
  /** All media are encrypted by it, or not sent. */
  encryption: Encryption | undefined;
  redundancy: Redundancy;
  /** Whether the voice repeats itself; otherwise as the server advises. */
  repeatsVoice: boolean | undefined;
}

/** Sends tracks: in the codec, layers and rates that are asked for or advised, encrypted where that is wanted. */
export class Publisher {
  readonly #options: PublisherOptions;
  readonly #producers = new Map<string, types.Producer>();
  readonly #sentLayers = new SentLayers();
  #advice: CodecAdvice | undefined;
  #isClosed = false;

  constructor(options: PublisherOptions) {
    this.#options = options;
    const { channel, redundancy, transport } = options;
    transport.on('produce', ({ kind, rtpParameters, appData }, done, fail) => {
      const red = kind === 'audio' ? redundancy : undefined;
      const parameters = red?.producedWithRed(transport, rtpParameters) ?? rtpParameters;
      channel
        .request('produce', { transportId: transport.id, kind, rtpParameters: parameters, appData })
        .then(({ producerId }) => done({ id: producerId }), fail);
    });
  }

  /** Sends a track to the others. */
  async publish(publication: Publication): Promise<types.Producer> {
    const { device, encryption, transport } = this.#options;
    const { source, track } = publication;
    if (!device.canProduce(track.kind as types.MediaKind)) {
      throw new MeetingError(
        'media-unsupported',
        `The server and this browser share no ${track.kind} codec.`,
      );
    }
    const options = this.#sendOptions(publication);
    const protection = encryption && protect(encryption, source, options.codec);
    const producer = await transport.produce({
      track,
      stopTracks: false,
      appData: { ...publication.appData, ...encryption?.announce(), source },
      ...options,
      ...protection?.options,
    });
    this.#producers.set(producer.id, producer);
    if (protection && !protection.isOn()) {
      await this.unpublish(producer);
      throw new MeetingError(
        'encryption-unsupported',
        'This browser gives no way to encrypt what it sends. Nothing was sent.',
      );
    }
    void this.#sentLayers.apply(producer);
    if (source === 'microphone') this.#repeat(producer);
    if (!publication.paused) return producer;
    try {
      await this.setPaused(producer, true);
    } catch (error) {
      // Nobody may take for open what is muted; and what is not known to be sent could never be ended.
      await this.unpublish(producer).catch(() => undefined);
      throw error;
    }
    return producer;
  }

  /** Stops sending a track. */
  async unpublish(producer: types.Producer): Promise<void> {
    this.#producers.delete(producer.id);
    this.#sentLayers.forget(producer.id);
    producer.close();
    if (this.#isClosed) return;
    await this.#options.channel.request('closeProducer', { producerId: producer.id });
  }

  /** Mutes or unmutes what is sent. */
  async setPaused(producer: types.Producer, paused: boolean): Promise<void> {
    if (paused) producer.pause();
    const name = paused ? 'pauseProducer' : 'resumeProducer';
    await this.#options.channel.request(name, { producerId: producer.id });
    // What an administrator muted is refused, and stays paused.
    if (!paused) producer.resume();
  }

  /**
   * A host or an administrator muted what is sent. The server hears that it is paused here, too: when it is unmuted, it is its
   * owner who resumes it.
   */
  muted(producerId: string): void {
    const producer = this.#producers.get(producerId);
    if (producer) this.setPaused(producer, true).catch(() => undefined);
  }

  /** Layers of a picture above this are taken by nobody. */
  limitLayers(producerId: string, spatialLayer: number): void {
    this.#sentLayers.limit(producerId, spatialLayer, this.#producers.get(producerId));
  }

  /** Follows this advice from now on; whether pictures are to be sent in another codec than before. */
  advise(advice: CodecAdvice): boolean {
    const before = this.#advisedCodec()?.mimeType;
    this.#advice = advice;
    const now = this.#advisedCodec()?.mimeType;
    for (const producer of this.#producers.values()) {
      if (producer.appData.source === 'microphone') this.#repeat(producer);
    }
    return now !== undefined && now !== before;
  }

  /** The session is over: the server need be told nothing more. */
  close(): void {
    this.#isClosed = true;
  }

  /** Has a voice repeat itself, or not. */
  #repeat(producer: types.Producer): void {
    const { redundancy, repeatsVoice, transport } = this.#options;
    const isRepeated = repeatsVoice ?? this.#advice?.audio.redundancy ?? false;
    void redundancy?.repeat(transport, producer, isRepeated);
  }

  #sendOptions({ source, track, mimeType }: Publication): Partial<types.ProducerOptions> {
    const { device, encryption } = this.#options;
    const codecs = device.sendRtpCapabilities.codecs ?? [];
    // The first is what would be taken; it is named where it must be known.
    const first = encryption && codecs.find(({ kind }) => kind === track.kind);
    if (source === 'microphone' || source === 'screenAudio') {
      const codecOptions =
        source === 'microphone' ? voiceOptions(this.#advice) : SCREEN_AUDIO_CODEC;
      return { codecOptions, ...(first ? { codec: first } : {}) };
    }
    const wanted = codecs.find(
      (candidate) => candidate.mimeType.toLowerCase() === mimeType?.toLowerCase(),
    );
    const advised = wanted ? undefined : this.#advisedCodec();
    const codec = wanted ?? advised ?? first;
    const usual = source === 'camera' ? CAMERA_ENCODINGS : SCREEN_ENCODINGS;
    // Layers inside one stream are not encrypted apart: those beside each other are.
    const follows = advised && this.#advice && !encryption;
    const encodings = (follows && this.#advice && encodingsOf(source, this.#advice)) || usual;
    return {
      encodings,
      codecOptions: VIDEO_CODEC,
      ...(codec ? { codec } : {}),
    };
  }

  /** What the server advises for pictures, as far as this browser sends it. */
  #advisedCodec(): types.RtpCodecCapability | undefined {
    const mimeType = this.#advice?.video?.mimeType.toLowerCase();
    const codecs = this.#options.device.sendRtpCapabilities.codecs ?? [];
    return codecs.find((codec) => codec.mimeType.toLowerCase() === mimeType);
  }
}

/** Encrypts a track that is about to be sent. Throws if its codec cannot be. */
function protect(
  encryption: Encryption,
  source: Source,
  codec: types.RtpCodecCapability | undefined,
) {
  const sealable = codecOf(codec?.mimeType);
  if (!sealable) {
    throw new MeetingError(
      'encryption-unsupported',
      `Media in ${codec?.mimeType ?? 'an unknown codec'} cannot be encrypted, and were not sent.`,
    );
  }
  let isOn = false;
  const onRtpSender = (sender: RTCRtpSender) => {
    encryption.protectSender(sender, source, sealable);
    isOn = true;
  };
  return { options: { onRtpSender }, isOn: () => isOn };
}
