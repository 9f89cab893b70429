import type { types } from 'mediasoup-client';
import * as protoo from 'protoo-client';
import { WebSocketChannel } from '../../../src/sdk/signaling';

/** The ways in which clients speak to the server. */
export type DialectName = 'old protoo' | 'new protoo' | 'opencall';

/** A track that the server offers. */
export interface Offer {
  peerId: string;
  consumerId: string;
  producerId: string;
  kind: types.MediaKind;
  rtpParameters: types.RtpParameters;
  type?: string;
}

/** A data channel that the server offers. */
export interface DataOffer {
  peerId: string;
  dataConsumerId: string;
  dataProducerId: string;
  sctpStreamParameters: types.SctpStreamParameters;
  label: string;
  protocol: string;
}

/** A data channel to be announced. */
export interface DataChannel {
  sctpStreamParameters: types.SctpStreamParameters;
  label?: string;
  protocol?: string;
  appData: Record<string, unknown>;
}

/** What the server said by itself, as it came. */
export interface Said {
  name: string;
  data: unknown;
}

/** The server's statistics of one SSRC. */
export interface StreamStats {
  type: 'inbound-rtp' | 'outbound-rtp';
  producerId?: string;
  consumerId?: string;
  nackCount: number;
  packetsRetransmitted: number;
  packetsLost?: number;
  pliCount: number;
  /** Milliseconds; absent while unknown. */
  roundTripTime?: number;
}

/** What is read of a transport's statistics. */
interface TransportStats {
  id: string;
  availableOutgoingBitrate?: number;
}

/** What a dialect needs of its peer. */
export interface Listener {
  offered(offer: Offer): Promise<void>;
  dataOffered(offer: DataOffer): Promise<void>;
  said(said: Said): void;
}

/** One dialect, reduced to what the tests need. */
export interface Dialect {
  routerRtpCapabilities(): Promise<types.RtpCapabilities>;
  createTransport(direction: 'send' | 'recv'): Promise<types.TransportOptions>;
  connectTransport(transportId: string, dtlsParameters: types.DtlsParameters): Promise<void>;
  join(rtpCapabilities: types.RtpCapabilities): Promise<void>;
  produce(
    transportId: string,
    kind: types.MediaKind,
    rtpParameters: types.RtpParameters,
    appData: Record<string, unknown>,
  ): Promise<string>;
  produceData(transportId: string, channel: DataChannel): Promise<string>;
  restartIce(transportId: string): Promise<types.IceParameters>;
  /** What the server counts of a stream. */
  streamStats(of: 'producer' | 'consumer', id: string): Promise<StreamStats[]>;
  /** What the server estimates that it can send on a transport, bits per second. */
  availableBitrate(transportId: string): Promise<number | undefined>;
  setPreferredLayers(
    consumerId: string,
    spatialLayer: number,
    temporalLayer: number,
  ): Promise<void>;
  setProducerPaused(producerId: string, paused: boolean): Promise<void>;
  closeProducer(producerId: string): Promise<void>;
  close(): void;
}

/** Connects in the dialect asked for. */
export function connect(
  name: DialectName,
  serverUrl: string,
  room: string,
  peerId: string,
  listener: Listener,
): Promise<Dialect> {
  if (name === 'opencall') return OpenCall.connect(serverUrl, room, peerId, listener);
  return Protoo.connect(name === 'old protoo', serverUrl, room, peerId, listener);
}

/** What mediasoup-client says of every browser. */
const sctpCapabilities = { numStreams: { OS: 1024, MIS: 1024 } };

class Protoo implements Dialect {
  readonly #peer: protoo.Peer;
  readonly #isOld: boolean;

  private constructor(peer: protoo.Peer, isOld: boolean) {
    this.#peer = peer;
    this.#isOld = isOld;
  }

  static connect(
    isOld: boolean,
    serverUrl: string,
    room: string,
    peerId: string,
    listener: Listener,
  ): Promise<Protoo> {
    const query = new URLSearchParams({ roomId: room, peerId });
    const peer = new protoo.Peer(new protoo.WebSocketTransport(`${serverUrl}/?${query}`));
    peer.on('request', ({ method, data }, accept, reject) => {
      let taken: Promise<void>;
      if (method === 'newConsumer') {
        const id = isOld ? data.id : data.consumerId;
        taken = listener.offered({ ...data, consumerId: id } as unknown as Offer);
      } else if (method === 'newDataConsumer') {
        const id = isOld ? data.id : data.dataConsumerId;
        taken = listener.dataOffered({ ...data, dataConsumerId: id } as unknown as DataOffer);
      } else {
        return reject(404, `no such method here: ${method}`);
      }
      taken.then(
        () => accept(),
        (error) => reject(500, String(error)),
      );
    });
    peer.on('notification', ({ method, data }) => listener.said({ name: method, data }));
    return new Promise((resolve, reject) => {
      peer.on('open', () => resolve(new Protoo(peer, isOld)));
      peer.on('failed', () => reject(new Error('the server does not take a protoo connection')));
      peer.on('disconnected', () => listener.said({ name: 'disconnected', data: {} }));
    });
  }

  async routerRtpCapabilities(): Promise<types.RtpCapabilities> {
    const answer = await this.#ask('getRouterRtpCapabilities');
    return (this.#isOld ? answer : answer.routerRtpCapabilities) as types.RtpCapabilities;
  }

  async createTransport(direction: 'send' | 'recv'): Promise<types.TransportOptions> {
    const isSend = direction === 'send';
    const answer = await this.#ask(
      'createWebRtcTransport',
      this.#isOld
        ? { forceTcp: false, producing: isSend, consuming: !isSend, sctpCapabilities }
        : {
            forceTcp: false,
            sctpCapabilities,
            appData: { direction: isSend ? 'producer' : 'consumer' },
          },
    );
    const id = this.#isOld ? answer.id : answer.transportId;
    return { ...answer, id } as unknown as types.TransportOptions;
  }

  async connectTransport(transportId: string, dtlsParameters: types.DtlsParameters): Promise<void> {
    await this.#ask('connectWebRtcTransport', { transportId, dtlsParameters });
  }

  async join(rtpCapabilities: types.RtpCapabilities): Promise<void> {
    const answer = await this.#ask('join', {
      displayName: 'Harness',
      device: { flag: 'harness', name: 'Harness', version: '1' },
      rtpCapabilities,
    });
    if (!Array.isArray(answer.peers)) throw new Error('join: no list of peers');
    for (const peer of answer.peers) {
      const id = this.#isOld ? peer.id : peer.peerId;
      if (typeof id !== 'string') throw new Error('join: a peer without an id');
    }
  }

  async produce(
    transportId: string,
    kind: types.MediaKind,
    rtpParameters: types.RtpParameters,
  ): Promise<string> {
    const appData = this.#isOld ? {} : { source: kind };
    const answer = await this.#ask('produce', { transportId, kind, rtpParameters, appData });
    return String(this.#isOld ? answer.id : answer.producerId);
  }

  async produceData(transportId: string, channel: DataChannel): Promise<string> {
    const answer = await this.#ask('produceData', { transportId, ...channel });
    return String(this.#isOld ? answer.id : answer.dataProducerId);
  }

  async restartIce(transportId: string): Promise<types.IceParameters> {
    const answer = await this.#ask('restartIce', { transportId });
    return (this.#isOld ? answer : answer.iceParameters) as types.IceParameters;
  }

  async streamStats(of: 'producer' | 'consumer', id: string): Promise<StreamStats[]> {
    const method = of === 'producer' ? 'getProducerStats' : 'getConsumerStats';
    const answer = await this.#ask(method, { [`${of}Id`]: id });
    return (this.#isOld ? answer : answer.stats) as StreamStats[];
  }

  async availableBitrate(transportId: string): Promise<number | undefined> {
    const answer = await this.#ask('getTransportStats', { transportId });
    const stats = (this.#isOld ? answer : answer.stats) as TransportStats[];
    return stats.find(({ id }) => id === transportId)?.availableOutgoingBitrate;
  }

  setPreferredLayers(consumerId: string, spatialLayer: number, temporalLayer: number) {
    return this.#act('setConsumerPreferredLayers', { consumerId, spatialLayer, temporalLayer });
  }

  setProducerPaused(producerId: string, paused: boolean): Promise<void> {
    return this.#act(paused ? 'pauseProducer' : 'resumeProducer', { producerId });
  }

  closeProducer(producerId: string): Promise<void> {
    return this.#act('closeProducer', { producerId });
  }

  close(): void {
    this.#peer.close();
  }

  async #ask(method: string, data: object = {}): Promise<Record<string, unknown>> {
    return (await this.#peer.request(method, data)) as Record<string, unknown>;
  }

  /** The old application asks, the new one only says. */
  async #act(method: string, data: object): Promise<void> {
    if (this.#isOld) await this.#peer.request(method, data);
    else await this.#peer.notify(method, data);
  }
}

class OpenCall implements Dialect {
  readonly #channel: WebSocketChannel;

  private constructor(channel: WebSocketChannel) {
    this.#channel = channel;
  }

  static async connect(
    serverUrl: string,
    room: string,
    peerId: string,
    listener: Listener,
  ): Promise<OpenCall> {
    const identity = { meetingId: room, participantId: peerId };
    const channel = await WebSocketChannel.open(`${serverUrl}/ws`, identity);
    let rtpCapabilities: types.RtpCapabilities | undefined;
    channel.on('event', ({ name, data }) => {
      listener.said({ name, data });
      if (name === 'newDataProducer') {
        channel
          .request('consumeData', { dataProducerId: data.dataProducerId })
          .then(({ id, ...answer }) =>
            listener.dataOffered({ ...answer, dataConsumerId: id, peerId: data.participantId }),
          )
          .catch((error) => listener.said({ name: 'error', data: String(error) }));
      }
      if (name !== 'newProducer' || !rtpCapabilities) return;
      const { producerId, participantId } = data;
      channel
        .request('consume', { producerId, rtpCapabilities })
        .then(({ id, ...answer }) =>
          listener.offered({ ...answer, consumerId: id, peerId: participantId }),
        )
        .catch((error) => listener.said({ name: 'error', data: String(error) }));
    });
    channel.on('close', () => listener.said({ name: 'disconnected', data: {} }));
    const dialect = new OpenCall(channel);
    dialect.join = async (capabilities) => {
      rtpCapabilities = capabilities;
      await channel.request('setRtpCapabilities', { rtpCapabilities: capabilities });
    };
    return dialect;
  }

  join(_rtpCapabilities: types.RtpCapabilities): Promise<void> {
    return Promise.reject(new Error('not connected'));
  }

  routerRtpCapabilities() {
    return this.#channel.request('getRouterCapabilities', {});
  }

  createTransport(direction: 'send' | 'recv') {
    return this.#channel.request('createTransport', { direction });
  }

  async connectTransport(transportId: string, dtlsParameters: types.DtlsParameters): Promise<void> {
    await this.#channel.request('connectTransport', { transportId, dtlsParameters });
  }

  async produce(
    transportId: string,
    kind: types.MediaKind,
    rtpParameters: types.RtpParameters,
    appData: Record<string, unknown>,
  ): Promise<string> {
    const request = { transportId, kind, rtpParameters, appData };
    return (await this.#channel.request('produce', request)).producerId;
  }

  async produceData(transportId: string, channel: DataChannel): Promise<string> {
    return (await this.#channel.request('produceData', { transportId, ...channel })).dataProducerId;
  }

  restartIce(transportId: string) {
    return this.#channel.request('restartIce', { transportId });
  }

  async streamStats(of: 'producer' | 'consumer', id: string): Promise<StreamStats[]> {
    const answer = await this.#channel.request('getStats', {});
    const { stats } = answer as { stats: StreamStats[] };
    return stats.filter((each) => each[`${of}Id`] === id);
  }

  async availableBitrate(transportId: string): Promise<number | undefined> {
    const answer = await this.#channel.request('getStats', {});
    const { stats } = answer as { stats: TransportStats[] };
    return stats.find(({ id }) => id === transportId)?.availableOutgoingBitrate;
  }

  async setPreferredLayers(consumerId: string, spatialLayer: number, temporalLayer: number) {
    const layers = { spatialLayer, temporalLayer };
    await this.#channel.request('setConsumerPreferredLayers', { consumerId, layers });
  }

  async setProducerPaused(producerId: string, paused: boolean): Promise<void> {
    await this.#channel.request(paused ? 'pauseProducer' : 'resumeProducer', { producerId });
  }

  async closeProducer(producerId: string): Promise<void> {
    await this.#channel.request('closeProducer', { producerId });
  }

  close(): void {
    this.#channel.close();
  }
}
