import { Device, type types } from 'mediasoup-client';
import {
  CAMERA_ENCODINGS,
  MICROPHONE_CODEC,
  SCREEN_ENCODINGS,
  VIDEO_CODEC,
} from '../sdk/encodings';
import { explainDeviceError, MeetingError } from '../sdk/errors';
import type { AppData, ConsumerData, DataConsumerData, Layers } from '../sdk/protocol';
import { EventEmitter } from './EventEmitter';

/** Which way media go. */
export type TransportDirection = 'send' | 'recv';

/** Asks the server, as `mediasoup:<name>`; resolves to its answer. */
// biome-ignore lint/suspicious/noExplicitAny: what is asked and answered depends on the type
export type SendMessage = (type: string, data: any) => Promise<any>;

/** What a service tells. */
export interface MediasoupServiceEvents {
  'sendTransport:connectionstatechange': types.ConnectionState;
  'recvTransport:connectionstatechange': types.ConnectionState;
  'transport:failed': TransportDirection;
  /** The producer whose device was unplugged, or whose sharing was ended in the browser. */
  'producer:trackended': string;
  'dataConsumer:message': { dataConsumerId: string; message: unknown; appData: AppData };
  'screenShare:ended': undefined;
  /** New keys, to be given to the others. Of {@link EncryptedMediasoupService}. */
  keyRotation: { keyId: string; key: ArrayBuffer };
}

/** How to send a track; what is left out follows from `appData.source`. */
export type ProduceOptions = Partial<Omit<types.ProducerOptions, 'track'>>;

/** How to send data. */
export type ProduceDataOptions = Partial<types.DataProducerOptions>;

export interface MediasoupServiceStats {
  producers: { id: string; stats: RTCStatsReport }[];
  consumers: { id: string; stats: RTCStatsReport }[];
}

/** mediasoup-client with the producers and consumers of one participant; signaling is its user's. */
export class MediasoupService extends EventEmitter<MediasoupServiceEvents> {
  readonly #producers = new Map<string, types.Producer>();
  readonly #consumers = new Map<string, types.Consumer>();
  /** Producers whose tracks are somebody else's, and such whose tracks another will send. */
  readonly #unstopped = new Set<string>();
  readonly #kept = new Set<string>();
  /** Tracks of producers that are gone, which end with the service unless they are sent again. */
  readonly #orphans = new Set<MediaStreamTrack>();
  readonly #dataProducers = new Map<string, types.DataProducer>();
  readonly #dataConsumers = new Map<string, types.DataConsumer>();
  #device: Device | undefined;
  #send: types.Transport | undefined;
  #recv: types.Transport | undefined;
  #sendMessage: SendMessage | undefined;

  /** With a way to the server, layers, priorities, pauses and ICE restarts are asked for there, too. */
  constructor({ sendMessage }: { sendMessage?: SendMessage } = {}) {
    super();
    this.#sendMessage = sendMessage;
  }

  /** Asks the server through this from now on. */
  setSendMessage(sendMessage: SendMessage): void {
    this.#sendMessage = sendMessage;
  }

  /** Makes the browser ready for what the router can do. */
  async initialize(routerRtpCapabilities: types.RtpCapabilities): Promise<void> {
    const device = await this.makeDevice();
    await device.load({ routerRtpCapabilities });
    this.#device = device;
  }

  /** What this browser can receive; goes to the server as `setRtpCapabilities`. */
  getRtpCapabilities(): types.RtpCapabilities | undefined {
    return this.#device?.recvRtpCapabilities;
  }

  async createSendTransport(
    options: types.TransportOptions,
    onConnect: (parameters: { dtlsParameters: types.DtlsParameters }) => Promise<void>,
    onProduce: (parameters: {
      kind: types.MediaKind;
      rtpParameters: types.RtpParameters;
      appData: AppData;
    }) => Promise<string>,
    onProduceData?: (parameters: {
      sctpStreamParameters: types.SctpStreamParameters;
      label?: string | undefined;
      protocol?: string | undefined;
      appData: AppData;
    }) => Promise<string>,
  ): Promise<void> {
    const transport = this.#loaded().createSendTransport(options);
    this.#send?.close();
    this.#send = this.#watch(transport, 'send', onConnect);
    transport.on('produce', ({ kind, rtpParameters, appData }, done, fail) => {
      onProduce({ kind, rtpParameters, appData }).then((id) => done({ id }), fail);
    });
    transport.on('producedata', (parameters, done, fail) => {
      if (!onProduceData) return fail(new Error('createSendTransport had no onProduceData'));
      const { sctpStreamParameters, label, protocol, appData } = parameters;
      const data = { sctpStreamParameters, label, protocol, appData };
      onProduceData(data).then((id) => done({ id }), fail);
    });
  }

  async createRecvTransport(
    options: types.TransportOptions,
    onConnect: (parameters: { dtlsParameters: types.DtlsParameters }) => Promise<void>,
  ): Promise<void> {
    const transport = this.#loaded().createRecvTransport(options);
    this.#recv?.close();
    this.#recv = this.#watch(transport, 'recv', onConnect);
  }

  /** The state of a transport, where there is one. */
  connectionState(direction: TransportDirection): types.ConnectionState | undefined {
    return this.#transport(direction)?.connectionState;
  }

  /** Sends a track: the camera in three layers, a screen in one. */
  async produce(track: MediaStreamTrack, options: ProduceOptions = {}): Promise<types.Producer> {
    const transport = this.#need('send');
    if (!this.#loaded().canProduce(track.kind as types.MediaKind)) {
      throw new MeetingError(
        'media-unsupported',
        `The server and this browser share no ${track.kind} codec.`,
      );
    }
    const isScreen = options.appData?.source === 'screen';
    const encodings = isScreen ? SCREEN_ENCODINGS : CAMERA_ENCODINGS;
    const producer = await transport.produce({
      ...(track.kind === 'video' ? { encodings, codecOptions: VIDEO_CODEC } : {}),
      ...(track.kind === 'audio' ? { codecOptions: MICROPHONE_CODEC } : {}),
      ...options,
      // Ended with the producer below, unless the track goes on elsewhere.
      stopTracks: false,
      track,
    });
    this.#keep(this.#producers, producer);
    this.#orphans.delete(track);
    if (options.stopTracks === false) this.#unstopped.add(producer.id);
    producer.observer.once('close', () => this.#producerClosed(producer));
    producer.on('trackended', () => this.emit('producer:trackended', producer.id));
    return producer;
  }

  /** Receives what `consume` of the server answered, or its `newConsumer` event brought. */
  async consume(data: ConsumerData, extra: Partial<types.ConsumerOptions> = {}) {
    const known = this.#consumers.get(data.id);
    // The server says it twice: as an answer and as an event.
    if (known && !known.closed) return known;
    const consumer = await this.#need('recv').consume({
      id: data.id,
      producerId: data.producerId,
      kind: data.kind,
      rtpParameters: data.rtpParameters,
      appData: data.appData ?? {},
      ...extra,
    });
    this.#keep(this.#consumers, consumer);
    await this.#tell('resumeConsumer', { consumerId: consumer.id });
    return consumer;
  }

  async produceData(options: ProduceDataOptions = {}): Promise<types.DataProducer> {
    const transport = this.#need('send');
    const channel = { label: 'chat', protocol: 'json', ...options };
    const isLossy = channel.maxRetransmits !== undefined || channel.maxPacketLifeTime !== undefined;
    const producer = await transport.produceData({
      ...channel,
      ordered: channel.ordered ?? !isLossy,
    });
    return this.#keep(this.#dataProducers, producer);
  }

  /** Receives what `consumeData` of the server answered, or its `newDataConsumer` event brought. */
  async consumeData(data: DataConsumerData): Promise<types.DataConsumer> {
    const known = this.#dataConsumers.get(data.id);
    if (known && !known.closed) return known;
    const { id, dataProducerId, sctpStreamParameters, label, protocol, appData = {} } = data;
    const options = { id, dataProducerId, sctpStreamParameters, label, protocol, appData };
    const consumer = await this.#need('recv').consumeData(options);
    consumer.on('message', (message: unknown) => this.dataReceived(data, message));
    return this.#keep(this.#dataConsumers, consumer);
  }

  /** A message came. */
  protected dataReceived({ id, appData = {} }: DataConsumerData, message: unknown): void {
    this.emit('dataConsumer:message', { dataConsumerId: id, message, appData });
  }

  /** Sends the first microphone and the first camera of a stream. */
  async setLocalStream(stream: MediaStream): Promise<void> {
    const [microphone] = stream.getAudioTracks();
    if (microphone) await this.produce(microphone, { appData: { source: 'microphone' } });
    const [camera] = stream.getVideoTracks();
    if (camera) await this.produce(camera, { appData: { source: 'webcam' } });
  }

  /** Asks for a screen and sends it; rejects with words for the user. */
  async shareScreen(): Promise<types.Producer | null> {
    let stream: MediaStream;
    try {
      stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { max: 30 } } });
    } catch (error) {
      throw explainDeviceError(error, 'screen');
    }
    const [track] = stream.getVideoTracks();
    if (!track) return null;
    track.contentHint = 'detail';
    const producer = await this.produce(track, { appData: { source: 'screen' } }).catch((error) => {
      track.stop();
      throw error;
    });
    producer.on('trackended', () => {
      producer.close();
      this.#tell('closeProducer', { producerId: producer.id }).catch(() => undefined);
      this.emit('screenShare:ended');
    });
    return producer;
  }

  async pauseProducer(producerId: string): Promise<void> {
    known(this.#producers, producerId, 'producer').pause();
    await this.#tell('pauseProducer', { producerId });
  }

  async resumeProducer(producerId: string): Promise<void> {
    known(this.#producers, producerId, 'producer').resume();
    await this.#tell('resumeProducer', { producerId });
  }

  async pauseConsumer(consumerId: string): Promise<void> {
    known(this.#consumers, consumerId, 'consumer').pause();
    await this.#tell('pauseConsumer', { consumerId });
  }

  async resumeConsumer(consumerId: string): Promise<void> {
    known(this.#consumers, consumerId, 'consumer').resume();
    await this.#tell('resumeConsumer', { consumerId });
  }

  /** Asks the server for at most this layer. */
  async setConsumerPreferredLayers(consumerId: string, layers: Layers): Promise<void> {
    const { kind } = known(this.#consumers, consumerId, 'consumer');
    if (kind !== 'video') throw new Error(`consumer ${consumerId} is sound, which has no layers`);
    await this.#ask('setConsumerPreferredLayers', { consumerId, layers });
  }

  /** Asks the server to serve this consumer before those of lower priority (1 to 255). */
  async setConsumerPriority(consumerId: string, priority: number): Promise<void> {
    known(this.#consumers, consumerId, 'consumer');
    await this.#ask('setConsumerPriority', { consumerId, priority });
  }

  getProducer(id: string): types.Producer | undefined {
    return this.#producers.get(id);
  }

  getConsumer(id: string): types.Consumer | undefined {
    return this.#consumers.get(id);
  }

  getDataProducer(id: string): types.DataProducer | undefined {
    return this.#dataProducers.get(id);
  }

  getDataConsumer(id: string): types.DataConsumer | undefined {
    return this.#dataConsumers.get(id);
  }

  getAllProducers(): types.Producer[] {
    return [...this.#producers.values()];
  }

  getAllConsumers(): types.Consumer[] {
    return [...this.#consumers.values()];
  }

  /** A codec that this browser sends, as `produce` takes it. */
  sendCodec(mimeType: string): types.RtpCodecCapability | undefined {
    const codecs = this.#device?.sendRtpCapabilities.codecs ?? [];
    return codecs.find((codec) => codec.mimeType.toLowerCase() === mimeType.toLowerCase());
  }

  /** Whether a producer's track ends with it. */
  stopsTrackOf(producerId: string): boolean {
    return !this.#unstopped.has(producerId);
  }

  /** Lets a producer's track go on when the producer ends. */
  keepTrackOf(producerId: string): void {
    this.#kept.add(producerId);
  }

  /** The browser's statistics of everything sent and received. */
  async getStats(): Promise<MediasoupServiceStats> {
    const read = (list: (types.Producer | types.Consumer)[]) =>
      Promise.all(list.map(async (one) => ({ id: one.id, stats: await one.getStats() })));
    const [producers, consumers] = await Promise.all([
      read(this.getAllProducers()),
      read(this.getAllConsumers()),
    ]);
    return { producers, consumers };
  }

  /** Searches a network path anew, with credentials that are given or that the server is asked for. */
  async restartIce(
    direction: TransportDirection,
    iceParameters?: types.IceParameters,
  ): Promise<types.IceParameters> {
    const transport = this.#need(direction);
    const parameters: types.IceParameters =
      iceParameters ?? (await this.#ask('restartIce', { transportId: transport.id }));
    await transport.restartIce({ iceParameters: parameters });
    return parameters;
  }

  /** Ends everything; tracks that were given end, too, unless `stopTracks` was false. */
  close(): void {
    this.closeTransports();
    for (const track of this.#orphans) track.stop();
    this.#orphans.clear();
    this.#device = undefined;
  }

  /** Ends transports with all that is on them; what they were made with stays, for others. */
  closeTransports(): void {
    const all = [this.#dataConsumers, this.#dataProducers, this.#consumers, this.#producers];
    for (const list of all) for (const one of [...list.values()]) one.close();
    this.#send?.close();
    this.#recv?.close();
    this.#send = undefined;
    this.#recv = undefined;
  }

  /** Another WebRTC than this browser's, for tests. */
  protected makeDevice(): Promise<Device> {
    return Device.factory();
  }

  /** The codec that is sent unless another is named. */
  protected firstCodec(kind: string): types.RtpCodecCapability | undefined {
    return this.#device?.sendRtpCapabilities.codecs?.find((codec) => codec.kind === kind);
  }

  #producerClosed({ id, track }: types.Producer): void {
    const isKept = this.#kept.delete(id);
    if (this.#unstopped.delete(id) || !track) return;
    if (isKept) this.#orphans.add(track);
    else track.stop();
  }

  #keep<One extends { id: string; observer: { once(name: 'close', then: () => void): unknown } }>(
    list: Map<string, One>,
    one: One,
  ): One {
    list.set(one.id, one);
    one.observer.once('close', () => list.delete(one.id));
    return one;
  }

  #watch(
    transport: types.Transport,
    direction: TransportDirection,
    onConnect: (parameters: { dtlsParameters: types.DtlsParameters }) => Promise<void>,
  ): types.Transport {
    transport.on('connect', ({ dtlsParameters }, done, fail) => {
      onConnect({ dtlsParameters }).then(done, fail);
    });
    transport.on('connectionstatechange', (state) => {
      this.emit(`${direction}Transport:connectionstatechange`, state);
      if (state === 'failed') this.emit('transport:failed', direction);
    });
    return transport;
  }

  #loaded(): Device {
    if (!this.#device) throw new Error('not initialized: call initialize(routerRtpCapabilities)');
    return this.#device;
  }

  #transport(direction: TransportDirection): types.Transport | undefined {
    return direction === 'send' ? this.#send : this.#recv;
  }

  #need(direction: TransportDirection): types.Transport {
    const transport = this.#transport(direction);
    if (transport) return transport;
    const name = direction === 'send' ? 'createSendTransport' : 'createRecvTransport';
    throw new Error(`no transport to ${direction} on: call ${name} first`);
  }

  /** What the server need not answer, where nobody may be there to ask. */
  async #tell(name: string, data: object): Promise<void> {
    await this.#sendMessage?.(`mediasoup:${name}`, data);
  }

  async #ask(name: string, data: object) {
    if (this.#sendMessage) return this.#sendMessage(`mediasoup:${name}`, data);
    throw new Error(`${name} needs the server: give sendMessage to the constructor`);
  }
}

function known<One>(list: Map<string, One>, id: string, what: string): One {
  const found = list.get(id);
  if (!found) throw new Error(`no ${what} ${id}`);
  return found;
}
