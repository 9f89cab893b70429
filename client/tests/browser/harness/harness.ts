/** Runs in the browser: peers made of unmodified mediasoup-client, moved by the tests from outside. */
import { Device, type types } from 'mediasoup-client';
import { negotiateRed, producedWithRed, repeat, withRed } from '../../../src/sdk/redundancy';
import {
  connect,
  type DataOffer,
  type Dialect,
  type DialectName,
  type Offer,
  type Said,
  type StreamStats,
} from './dialects';
import {
  type Continuity,
  followDecoded,
  followEncoded,
  type RecordedFrames,
  recordFrames,
  type Timeline,
} from './frames';
import { plain } from './plain';
import { whep } from './whep';

/** What to send as video. */
export interface VideoOptions {
  /** For example `VP9`; otherwise the server's first. */
  codec?: string;
  simulcast?: boolean;
  /** One encoding with these layers inside, for example `L3T3_KEY`. */
  scalabilityMode?: string;
  width?: number;
  height?: number;
  fps?: number;
  /**
   * Sends all that it is asked for, whatever the browser thinks of the link and of its CPU: for tests of other things than
   * adaptation, on machines that give cause for it.
   */
  steady?: boolean;
  /** What is encoded can be asked for, by `encodedFrames`; always so of steady video. */
  followed?: boolean;
}

/** How to send sound. */
export interface AudioOptions {
  /** Packets of sound are sent again when they were lost; applications rarely ask for it. */
  opusNack?: boolean;
  /** False: silence is sent as any other sound. */
  opusDtx?: boolean;
  /** Each packet repeats the one before (RFC 2198); for peers that take such sound themselves. */
  repeated?: boolean;
}

/** What is between a peer and the server. */
export interface LinkOptions {
  /** Where a relay takes this peer's media in the server's place; otherwise straight to the server. */
  relayPort?: number;
  /** False: as a client without retransmission, which offers neither NACK nor RTX. */
  repair?: boolean;
  /** The certificate of both transports is RSA, 2048 bits; otherwise each has one of the browser's own kind. */
  rsa?: boolean;
  /** The browser is the DTLS server of its sending transport. mediasoup-client supports that in Chromium alone. */
  dtlsServer?: boolean;
  /** Knows sound that repeats itself (RFC 2198), as this package's own client does. */
  red?: boolean;
  /** Keeps the first encoded frames of each received track, as they came, for `recordedFrames`. */
  recorded?: boolean;
}

/** How evenly a video is shown on this machine's clock, since it was last asked. */
export interface Smoothness {
  frames: number;
  longestGapMs: number;
}

/** A received track, as its statistics tell. */
export interface Received {
  consumerId: string;
  producerId: string;
  peerId: string;
  kind: string;
  type: string | undefined;
  mimeType: string;
  packetsReceived: number;
  packetsLost: number;
  retransmittedPacketsReceived: number;
  framesDecoded: number;
  keyFramesDecoded: number;
  framesReceived: number;
  framesDropped: number;
  freezeCount: number;
  totalFreezesDuration: number;
  frameWidth: number;
  frameHeight: number;
  nackCount: number;
  pliCount: number;
  totalAudioEnergy: number;
  concealedSamples: number;
  silentConcealedSamples: number;
  totalSamplesReceived: number;
  /** Of sound: repetitions of frames. */
  fecPacketsReceived: number;
  bytesReceived: number;
  headerBytesReceived: number;
  payloadType: number;
  decoder: string;
}

/** One of the layers sent. */
export interface Sent {
  rid: string | undefined;
  mimeType: string;
  framesEncoded: number;
  frameWidth: number;
  packetsSent: number;
  retransmittedPacketsSent: number;
  nackCount: number;
  pliCount: number;
  active: boolean;
}

/** The path of one transport. */
export interface Path {
  connectionState: string;
  tlsVersion: string;
  dtlsCipher: string;
  srtpCipher: string;
  /** What this browser announced of its end of DTLS. */
  dtlsParameters: types.DtlsParameters | undefined;
  localUfrag: string;
  localAddress: string;
  remoteAddress: string;
  remotePort: string;
  protocol: string;
  bytesSent: number;
  bytesReceived: number;
}

/** How to send data. */
export interface ChannelOptions {
  label?: string;
  ordered?: boolean;
  maxRetransmits?: number;
  maxPacketLifeTime?: number;
}

/** A message as a page receives it; bytes are told by their number and their sum. */
export interface Message {
  dataProducerId: string;
  label: string;
  kind: 'text' | 'bytes';
  text?: string;
  bytes: number;
  sum: number;
}

type Report = Record<string, unknown> & { type: string; id: string };

const SIMULCAST: types.RtpEncodingParameters[] = [
  { rid: 'r0', maxBitrate: 100_000, scaleResolutionDownBy: 4, scalabilityMode: 'L1T3' },
  { rid: 'r1', maxBitrate: 300_000, scaleResolutionDownBy: 2, scalabilityMode: 'L1T3' },
  { rid: 'r2', maxBitrate: 900_000, scaleResolutionDownBy: 1, scalabilityMode: 'L1T3' },
];

/** What browsers made by themselves before ECDSA, and still make when asked. */
const RSA: RsaHashedKeyGenParams = {
  name: 'RSASSA-PKCS1-v1_5',
  hash: 'SHA-256',
  modulusLength: 2048,
  publicExponent: new Uint8Array([1, 0, 1]),
};

/** Kilobits per second; above what all layers take together, so that none has to wait for the estimate. */
const STEADY_BITRATE_KBPS = 1500;

class TestPeer {
  readonly said: Said[] = [];
  /** Each change of a transport's state, ICE and DTLS in one, as `send connected`. */
  readonly states: string[] = [];
  readonly #standstills = new Map<string, { longestMs: number; timer: number }>();
  readonly #device: Device;
  readonly #consumers = new Map<
    string,
    { consumer: types.Consumer; offer: Offer; element: HTMLMediaElement }
  >();
  readonly #producers = new Map<string, types.Producer>();
  readonly messages: Message[] = [];
  readonly #channels = new Map<string, types.DataProducer>();
  readonly #dataConsumers = new Map<string, types.DataConsumer>();
  readonly #shown = new Map<string, Smoothness & { lastAt: number; lastFrame: number }>();
  /** By producer, then by SSRC. */
  readonly #encoded = new Map<string, Map<number, Timeline>>();
  readonly #decoded = new Map<string, Timeline>();
  /** By producer; of whoever records. */
  readonly #recorded = new Map<string, RecordedFrames>();
  #isRecording = false;
  /** By transport. */
  readonly #announced = new Map<string, types.DtlsParameters>();
  #dialect!: Dialect;
  #send!: types.Transport;
  #recv!: types.Transport;

  private constructor(device: Device) {
    this.#device = device;
  }

  static async open(
    dialect: DialectName,
    serverUrl: string,
    room: string,
    peerId: string,
    link: LinkOptions,
  ) {
    // Older versions look for the browser themselves.
    const peer = new TestPeer(Device.factory ? await Device.factory() : new Device());
    peer.#isRecording = link.recorded ?? false;
    peer.#dialect = await connect(dialect, serverUrl, room, peerId, {
      offered: (offer) => peer.#offered(offer),
      dataOffered: (offer) => peer.#dataOffered(offer),
      said: (said) => {
        peer.said.push(said);
        const { dataConsumerId } = (said.data ?? {}) as { dataConsumerId?: string };
        if (said.name === 'dataConsumerClosed' && dataConsumerId) {
          peer.#dataConsumers.get(dataConsumerId)?.close();
        }
      },
    });
    const capabilities = await peer.#dialect.routerRtpCapabilities();
    await peer.#device.load({
      routerRtpCapabilities: link.repair === false ? withoutRepair(capabilities) : capabilities,
    });
    const certificates = link.rsa ? [await RTCPeerConnection.generateCertificate(RSA)] : undefined;
    const options = async (direction: 'send' | 'recv') => ({
      ...through(link.relayPort, await peer.#dialect.createTransport(direction)),
      ...(certificates ? { additionalSettings: { certificates } } : {}),
    });
    const send = await options('send');
    if (link.dtlsServer) send.dtlsParameters.role = 'client';
    peer.#send = peer.#watch(peer.#device.createSendTransport(send));
    if (link.red) negotiateRed(peer.#send);
    peer.#recv = peer.#watch(peer.#device.createRecvTransport(await options('recv')));
    const own = peer.#device.recvRtpCapabilities ?? peer.#device.rtpCapabilities;
    await peer.#dialect.join(link.red ? withRed(own) : own);
    return peer;
  }

  async sendVideo(options: VideoOptions): Promise<string> {
    const { width = 640, height = 360, fps = 15 } = options;
    const stream = await navigator.mediaDevices.getUserMedia({
      video: { width, height, frameRate: fps },
    });
    const [track] = stream.getVideoTracks();
    if (!track) throw new Error('no video track');
    const codec = options.codec && this.#codec(options.codec);
    let encoded: Map<number, Timeline> | undefined;
    const producer = await this.#send.produce({
      track,
      ...(options.simulcast ? { encodings: SIMULCAST } : {}),
      ...(options.scalabilityMode
        ? { encodings: [{ scalabilityMode: options.scalabilityMode, maxBitrate: 1_200_000 }] }
        : {}),
      ...(codec ? { codec } : {}),
      codecOptions: {
        videoGoogleStartBitrate: 1000,
        ...(options.steady ? { videoGoogleMinBitrate: STEADY_BITRATE_KBPS } : {}),
      },
      appData: { source: 'camera' },
      onRtpSender: (sender) => {
        if (options.steady || options.followed) encoded = followEncoded(sender);
      },
    });
    this.#producers.set(producer.id, producer);
    if (encoded) this.#encoded.set(producer.id, encoded);
    if (options.steady) await keepResolution(producer);
    return producer.id;
  }

  async sendAudio({ repeated, ...options }: AudioOptions): Promise<string> {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const [track] = stream.getAudioTracks();
    if (!track) throw new Error('no audio track');
    const producer = await this.#send.produce({
      track,
      codecOptions: { opusStereo: true, opusFec: true, opusDtx: true, ...options },
      appData: { source: 'microphone' },
    });
    this.#producers.set(producer.id, producer);
    if (repeated) await repeat(this.#send, producer, true);
    return producer.id;
  }

  /** Opens a channel; it is open when this returns. */
  async openChannel(options: ChannelOptions): Promise<string> {
    const channel = await this.#send.produceData({ label: 'chat', protocol: 'test', ...options });
    this.#channels.set(channel.id, channel);
    if (channel.readyState !== 'open') {
      await new Promise<void>((resolve) => channel.once('open', resolve));
    }
    return channel.id;
  }

  /** Says texts, or bytes by their number. */
  say(dataProducerId: string, messages: (string | number)[]): void {
    const channel = this.#channels.get(dataProducerId);
    for (const message of messages) {
      channel?.send(
        typeof message === 'string' ? message : Uint8Array.from({ length: message }, (_, i) => i),
      );
    }
  }

  /** Data producers whose channel to this peer is open. */
  openChannels(): string[] {
    const open = [...this.#dataConsumers.values()].filter(
      ({ readyState }) => readyState === 'open',
    );
    return open.map(({ dataProducerId }) => dataProducerId);
  }

  closeChannel(dataProducerId: string): void {
    this.#channels.get(dataProducerId)?.close();
    this.#channels.delete(dataProducerId);
  }

  async received(): Promise<Received[]> {
    const list: Received[] = [];
    for (const { consumer, offer } of this.#consumers.values()) {
      const reports = reportsOf(await consumer.getStats());
      const inbound = reports.find(({ type }) => type === 'inbound-rtp');
      const codec = reports.find(({ id }) => id === inbound?.codecId);
      const number = (key: string) => Number(inbound?.[key] ?? 0);
      list.push({
        consumerId: consumer.id,
        producerId: consumer.producerId,
        peerId: offer.peerId,
        kind: consumer.kind,
        type: offer.type,
        mimeType: String(codec?.mimeType ?? ''),
        packetsReceived: number('packetsReceived'),
        packetsLost: number('packetsLost'),
        retransmittedPacketsReceived: number('retransmittedPacketsReceived'),
        framesDecoded: number('framesDecoded'),
        keyFramesDecoded: number('keyFramesDecoded'),
        framesReceived: number('framesReceived'),
        framesDropped: number('framesDropped'),
        freezeCount: number('freezeCount'),
        totalFreezesDuration: number('totalFreezesDuration'),
        frameWidth: number('frameWidth'),
        frameHeight: number('frameHeight'),
        nackCount: number('nackCount'),
        pliCount: number('pliCount'),
        totalAudioEnergy: number('totalAudioEnergy'),
        concealedSamples: number('concealedSamples'),
        silentConcealedSamples: number('silentConcealedSamples'),
        totalSamplesReceived: number('totalSamplesReceived'),
        fecPacketsReceived: number('fecPacketsReceived'),
        bytesReceived: number('bytesReceived'),
        headerBytesReceived: number('headerBytesReceived'),
        payloadType: Number(codec?.payloadType ?? -1),
        decoder: String(inbound?.decoderImplementation ?? ''),
      });
    }
    return list;
  }

  /** How evenly this producer's video was shown since the last call. */
  smoothness(producerId: string): Smoothness {
    const shown = this.#shown.get(producerId);
    if (!shown) throw new Error('no such video');
    const { frames, longestGapMs, lastAt } = shown;
    const now = performance.now();
    this.#shown.set(producerId, { ...shown, frames: 0, longestGapMs: 0, lastAt: now });
    // A gap that is not over counts as well.
    return { frames, longestGapMs: Math.max(longestGapMs, now - lastAt) };
  }

  /** How continuous this producer's pictures were encoded since the last call, of each layer that was. */
  encodedFrames(producerId: string): Continuity[] {
    const timelines = this.#encoded.get(producerId);
    if (!timelines) throw new Error('this video is not followed');
    return [...timelines.values()].map((timeline) => timeline.take());
  }

  /** How continuous the pictures of this producer were decoded since the last call; the first begins it. */
  decodedFrames(producerId: string): Continuity {
    const consumer = [...this.#consumers.values()].find(
      ({ offer }) => offer.producerId === producerId,
    )?.consumer;
    if (!consumer) throw new Error('no such video');
    const timeline = this.#decoded.get(producerId) ?? followDecoded(consumer.track);
    this.#decoded.set(producerId, timeline);
    return timeline.take();
  }

  /** Asks every 50 ms from now on how many pictures of this producer were decoded. */
  watchDecoding(producerId: string): void {
    const watch = { longestMs: 0, timer: 0 };
    let last = { frames: -1, at: performance.now() };
    const look = async () => {
      const track = (await this.received()).find((one) => one.producerId === producerId);
      const now = performance.now();
      if (track && track.framesDecoded !== last.frames) {
        last = { frames: track.framesDecoded, at: now };
      }
      watch.longestMs = Math.max(watch.longestMs, now - last.at);
    };
    watch.timer = window.setInterval(() => void look(), 50);
    this.#standstills.set(producerId, watch);
  }

  /** For how long that number stood still, at most; ends the asking. */
  longestStandstillMs(producerId: string): number {
    const watch = this.#standstills.get(producerId);
    if (!watch) throw new Error('nobody watches this producer');
    clearInterval(watch.timer);
    this.#standstills.delete(producerId);
    return watch.longestMs;
  }

  /** Encoded frames of this producer, as they came, as base64. */
  recordedFrames(producerId: string): string[] {
    const recorded = this.#recorded.get(producerId);
    if (!recorded) throw new Error('this peer does not record');
    return recorded.frames.map((frame) => btoa(String.fromCharCode(...new Uint8Array(frame))));
  }

  recordedCount(producerId: string): number {
    return this.#recorded.get(producerId)?.frames.length ?? 0;
  }

  async sent(producerId: string): Promise<Sent[]> {
    const producer = this.#producers.get(producerId);
    if (!producer) throw new Error('no such producer');
    const reports = reportsOf(await producer.getStats());
    return reports
      .filter(({ type }) => type === 'outbound-rtp')
      .map((outbound) => ({
        rid: outbound.rid as string | undefined,
        mimeType: String(reports.find(({ id }) => id === outbound.codecId)?.mimeType ?? ''),
        framesEncoded: Number(outbound.framesEncoded ?? 0),
        frameWidth: Number(outbound.frameWidth ?? 0),
        packetsSent: Number(outbound.packetsSent ?? 0),
        retransmittedPacketsSent: Number(outbound.retransmittedPacketsSent ?? 0),
        nackCount: Number(outbound.nackCount ?? 0),
        pliCount: Number(outbound.pliCount ?? 0),
        active: outbound.active !== false,
      }));
  }

  streamStats(of: 'producer' | 'consumer', id: string): Promise<StreamStats[]> {
    return this.#dialect.streamStats(of, id);
  }

  /** What the server estimates that it can send to this peer, bits per second. */
  availableBitrate(): Promise<number | undefined> {
    return this.#dialect.availableBitrate(this.#recv.id);
  }

  async path(direction: 'send' | 'recv'): Promise<Path> {
    const transport = direction === 'send' ? this.#send : this.#recv;
    const reports = reportsOf(await transport.getStats());
    const found = reports.find(({ type }) => type === 'transport');
    const pair =
      reports.find(({ id }) => id === found?.selectedCandidatePairId) ??
      reports.find(({ type, selected }) => type === 'candidate-pair' && selected === true);
    const local = reports.find(({ id }) => id === pair?.localCandidateId);
    const remote = reports.find(({ id }) => id === pair?.remoteCandidateId);
    const text = (report: Report | undefined, key: string) => String(report?.[key] ?? '');
    return {
      connectionState: transport.connectionState,
      tlsVersion: text(found, 'tlsVersion'),
      dtlsCipher: text(found, 'dtlsCipher'),
      srtpCipher: text(found, 'srtpCipher'),
      dtlsParameters: this.#announced.get(transport.id),
      localUfrag: text(found, 'iceLocalUsernameFragment'),
      localAddress: text(local, 'address'),
      remoteAddress: text(remote, 'address'),
      remotePort: text(remote, 'port'),
      protocol: text(remote, 'protocol'),
      bytesSent: Number(pair?.bytesSent ?? 0),
      bytesReceived: Number(pair?.bytesReceived ?? 0),
    };
  }

  setLayers(consumerId: string, spatialLayer: number, temporalLayer: number): Promise<void> {
    return this.#dialect.setPreferredLayers(consumerId, spatialLayer, temporalLayer);
  }

  async setPaused(producerId: string, paused: boolean): Promise<void> {
    const producer = this.#producers.get(producerId);
    if (paused) producer?.pause();
    else producer?.resume();
    await this.#dialect.setProducerPaused(producerId, paused);
  }

  async stop(producerId: string): Promise<void> {
    this.#producers.get(producerId)?.close();
    this.#producers.delete(producerId);
    await this.#dialect.closeProducer(producerId);
  }

  async restartIce(direction: 'send' | 'recv'): Promise<void> {
    const transport = direction === 'send' ? this.#send : this.#recv;
    await transport.restartIce({ iceParameters: await this.#dialect.restartIce(transport.id) });
  }

  close(): void {
    for (const { element } of this.#consumers.values()) element.remove();
    for (const producer of this.#producers.values()) producer.track?.stop();
    this.#send.close();
    this.#recv.close();
    this.#dialect.close();
  }

  #codec(name: string): types.RtpCodecCapability {
    const codec = this.#device.sendRtpCapabilities.codecs?.find(
      ({ mimeType }) => mimeType.toLowerCase() === `video/${name.toLowerCase()}`,
    );
    if (!codec) throw new Error(`server and browser do not share ${name}`);
    return codec;
  }

  #watch(transport: types.Transport): types.Transport {
    transport.on('connectionstatechange', (state) => {
      this.states.push(`${transport.direction} ${state}`);
    });
    transport.on('connect', ({ dtlsParameters }, done, fail) => {
      this.#announced.set(transport.id, dtlsParameters);
      this.#dialect.connectTransport(transport.id, dtlsParameters).then(done, fail);
    });
    transport.on('produce', ({ kind, rtpParameters, appData }, done, fail) => {
      this.#dialect
        .produce(transport.id, kind, producedWithRed(transport, rtpParameters), appData)
        .then((id) => done({ id }), fail);
    });
    transport.on('producedata', (channel, done, fail) => {
      this.#dialect.produceData(transport.id, channel).then((id) => done({ id }), fail);
    });
    return transport;
  }

  #countFrames(element: HTMLVideoElement, producerId: string): void {
    const lastAt = performance.now();
    this.#shown.set(producerId, { frames: 0, longestGapMs: 0, lastAt, lastFrame: 0 });
    const shownAt = (now: number, { presentedFrames }: VideoFrameCallbackMetadata) => {
      const shown = this.#shown.get(producerId);
      if (shown) {
        // A busy page is not called for each of them.
        shown.frames += presentedFrames - shown.lastFrame;
        shown.lastFrame = presentedFrames;
        shown.longestGapMs = Math.max(shown.longestGapMs, now - shown.lastAt);
        shown.lastAt = now;
      }
      element.requestVideoFrameCallback(shownAt);
    };
    element.requestVideoFrameCallback(shownAt);
  }

  async #dataOffered(offer: DataOffer): Promise<void> {
    const { peerId: _, dataConsumerId: id, ...options } = offer;
    const consumer = await this.#recv.consumeData({ id, ...options });
    this.#dataConsumers.set(id, consumer);
    consumer.on('close', () => this.#dataConsumers.delete(id));
    consumer.on('transportclose', () => this.#dataConsumers.delete(id));
    consumer.on('message', (data: string | ArrayBuffer) => {
      const of = { dataProducerId: offer.dataProducerId, label: offer.label };
      if (typeof data === 'string') {
        this.messages.push({ ...of, kind: 'text', text: data, bytes: data.length, sum: 0 });
      } else {
        const sum = new Uint8Array(data).reduce((sum, byte) => sum + byte, 0);
        this.messages.push({ ...of, kind: 'bytes', bytes: data.byteLength, sum });
      }
    });
  }

  async #offered(offer: Offer): Promise<void> {
    const consumer = await this.#recv.consume({
      id: offer.consumerId,
      producerId: offer.producerId,
      kind: offer.kind,
      rtpParameters: offer.rtpParameters,
      streamId: `${encodeURIComponent(offer.peerId)}-${offer.kind}`,
      ...(this.#isRecording
        ? {
            onRtpReceiver: (receiver: RTCRtpReceiver) => {
              this.#recorded.set(offer.producerId, recordFrames(receiver));
            },
          }
        : {}),
    });
    const element = document.createElement(offer.kind);
    element.autoplay = true;
    element.muted = offer.kind === 'video';
    if (element instanceof HTMLVideoElement) this.#countFrames(element, offer.producerId);
    element.srcObject = new MediaStream([consumer.track]);
    document.body.append(element);
    this.#consumers.set(consumer.id, { consumer, offer, element });
  }
}

/** A busy browser sends fewer frames then, instead of fewer and smaller layers. */
async function keepResolution(producer: types.Producer): Promise<void> {
  const sender = producer.rtpSender;
  if (!sender) throw new Error('unreachable: it is being sent');
  await sender.setParameters({
    ...sender.getParameters(),
    degradationPreference: 'maintain-resolution',
  });
}

/** Candidates of a relay in place of the server's. ICE over TCP would go round it. */
function through(relayPort: number | undefined, options: types.TransportOptions) {
  if (relayPort === undefined) return options;
  const iceCandidates = options.iceCandidates
    .filter(({ protocol }) => protocol === 'udp')
    .map((candidate) => ({ ...candidate, port: relayPort }));
  return { ...options, iceCandidates };
}

function withoutRepair(capabilities: types.RtpCapabilities): types.RtpCapabilities {
  const codecs = (capabilities.codecs ?? [])
    .filter(({ mimeType }) => !/\/rtx$/i.test(mimeType))
    .map((codec) => ({
      ...codec,
      rtcpFeedback: (codec.rtcpFeedback ?? []).filter(
        ({ type, parameter }) => type !== 'nack' || parameter,
      ),
    }));
  return { ...capabilities, codecs };
}

function reportsOf(stats: RTCStatsReport): Report[] {
  const reports: Report[] = [];
  stats.forEach((report) => {
    reports.push(report as Report);
  });
  return reports;
}

const peers = new Map<string, TestPeer>();

function find(peerId: string): TestPeer {
  const peer = peers.get(peerId);
  if (!peer) throw new Error(`no peer ${peerId} on this page`);
  return peer;
}

const harness = {
  ...plain,
  ...whep,
  async open(
    peerId: string,
    dialect: DialectName,
    serverUrl: string,
    room: string,
    link: LinkOptions = {},
  ) {
    peers.set(peerId, await TestPeer.open(dialect, serverUrl, room, peerId, link));
  },
  sendVideo: (peerId: string, options: VideoOptions) => find(peerId).sendVideo(options),
  sendAudio: (peerId: string, options: AudioOptions = {}) => find(peerId).sendAudio(options),
  openChannel: (peerId: string, options: ChannelOptions) => find(peerId).openChannel(options),
  say: async (peerId: string, dataProducerId: string, messages: (string | number)[]) =>
    find(peerId).say(dataProducerId, messages),
  closeChannel: async (peerId: string, dataProducerId: string) =>
    find(peerId).closeChannel(dataProducerId),
  openChannels: async (peerId: string) => find(peerId).openChannels(),
  messages: async (peerId: string) => find(peerId).messages,
  received: (peerId: string) => find(peerId).received(),
  smoothness: async (peerId: string, producerId: string) => find(peerId).smoothness(producerId),
  encodedFrames: async (peerId: string, producerId: string) =>
    find(peerId).encodedFrames(producerId),
  decodedFrames: async (peerId: string, producerId: string) =>
    find(peerId).decodedFrames(producerId),
  recordedFrames: async (peerId: string, producerId: string) =>
    find(peerId).recordedFrames(producerId),
  recordedCount: async (peerId: string, producerId: string) =>
    find(peerId).recordedCount(producerId),
  sent: (peerId: string, producerId: string) => find(peerId).sent(producerId),
  streamStats: (peerId: string, of: 'producer' | 'consumer', id: string) =>
    find(peerId).streamStats(of, id),
  availableBitrate: (peerId: string) => find(peerId).availableBitrate(),
  path: (peerId: string, direction: 'send' | 'recv') => find(peerId).path(direction),
  setLayers: (peerId: string, consumerId: string, spatialLayer: number, temporalLayer: number) =>
    find(peerId).setLayers(consumerId, spatialLayer, temporalLayer),
  setPaused: (peerId: string, producerId: string, paused: boolean) =>
    find(peerId).setPaused(producerId, paused),
  stop: (peerId: string, producerId: string) => find(peerId).stop(producerId),
  restartIce: (peerId: string, direction: 'send' | 'recv') => find(peerId).restartIce(direction),
  said: async (peerId: string) => find(peerId).said,
  states: async (peerId: string) => find(peerId).states,
  watchDecoding: async (peerId: string, producerId: string) =>
    find(peerId).watchDecoding(producerId),
  longestStandstillMs: async (peerId: string, producerId: string) =>
    find(peerId).longestStandstillMs(producerId),
  close: async (peerId: string) => {
    find(peerId).close();
    peers.delete(peerId);
  },
  closeAll: async () => {
    for (const peer of peers.values()) peer.close();
    peers.clear();
  },
  /** Until this browser, calling itself, shows its first picture: how fast it is here and now. */
  async ownFirstPictureMs() {
    const begin = performance.now();
    const [caller, callee] = [new RTCPeerConnection(), new RTCPeerConnection()];
    caller.onicecandidate = ({ candidate }) => callee.addIceCandidate(candidate ?? undefined);
    callee.onicecandidate = ({ candidate }) => caller.addIceCandidate(candidate ?? undefined);
    const video = document.createElement('video');
    callee.ontrack = ({ track }) => {
      video.srcObject = new MediaStream([track]);
    };
    video.muted = true;
    video.autoplay = true;
    document.body.append(video);
    const shown = new Promise((resolve) => video.addEventListener('loadeddata', resolve));
    const stream = await navigator.mediaDevices.getUserMedia({ video: { height: 360 } });
    for (const track of stream.getTracks()) caller.addTrack(track);
    await caller.setLocalDescription();
    await callee.setRemoteDescription(caller.localDescription as RTCSessionDescription);
    await callee.setLocalDescription();
    await caller.setRemoteDescription(callee.localDescription as RTCSessionDescription);
    await shown;
    const tookMs = performance.now() - begin;
    for (const track of stream.getTracks()) track.stop();
    for (const connection of [caller, callee]) connection.close();
    video.remove();
    return tookMs;
  },
  /** Names of the video codecs that this browser can encode. */
  encoders: async () =>
    [
      ...new Set(
        RTCRtpSender.getCapabilities('video')?.codecs.map(({ mimeType }) => mimeType.slice(6)),
      ),
    ] as string[],
};

/** What tests can call from outside. */
export type Harness = typeof harness;

declare global {
  interface Window {
    harness: Harness;
  }
}

window.harness = harness;
