/**
 * Runs in the browser: OpenCall's published client, as its hook speaks to its server, request by request. It shares no line
 * with the SDK here. Built once with each mediasoup-client that its applications have: where their names differ, by those
 * of 3.7, which 3.24 still has.
 */
import { Device, type types, version } from 'mediasoup-client';

/** What a participant has of another's track. */
export interface HookReceived {
  participantId: string;
  kind: string;
  source: unknown;
  framesDecoded: number;
  frameWidth: number;
  packetsReceived: number;
  packetsLost: number;
  audioLevel: number;
  totalAudioEnergy: number;
}

/** Where a participant stands. */
export interface HookState {
  mediasoupVersion: string;
  handler: string;
  received: HookReceived[];
  /** What the server refused, or said of what it did not understand. */
  errors: string[];
  /** The requests, in the order in which they were sent. */
  asked: string[];
}

interface Frame {
  type: string;
  id?: string;
  data?: unknown;
  error?: string;
}

interface ConsumerData {
  id: string;
  producerId: string;
  kind: types.MediaKind;
  rtpParameters: types.RtpParameters;
  appData?: Record<string, unknown>;
}

/** How often the client says that it is there; its own interval is longer than any test. */
const PING_INTERVAL_MS = 1_000;

const WEBCAM: types.RtpEncodingParameters[] = [
  { rid: 'r0', maxBitrate: 100_000, scaleResolutionDownBy: 4 },
  { rid: 'r1', maxBitrate: 300_000, scaleResolutionDownBy: 2 },
  { rid: 'r2', maxBitrate: 900_000, scaleResolutionDownBy: 1 },
];

class HookClient {
  readonly errors: string[] = [];
  readonly asked: string[] = [];
  readonly #device = new Device();
  readonly #socket: WebSocket;
  readonly #identity: { meetingId: string; participantId: string };
  readonly #pending = new Map<string, (frame: Frame) => void>();
  readonly #consumers: { participantId: string; consumer: types.Consumer }[] = [];
  readonly #tracks: MediaStreamTrack[] = [];
  #send: types.Transport | undefined;
  #recv: types.Transport | undefined;
  #lastId = 0;

  constructor(url: string, meetingId: string, participantId: string) {
    this.#identity = { meetingId, participantId };
    this.#socket = new WebSocket(url);
    this.#socket.onmessage = ({ data }) => this.#frame(JSON.parse(data));
  }

  async start(): Promise<void> {
    await new Promise((resolve, reject) => {
      this.#socket.onopen = resolve;
      this.#socket.onerror = () => reject(new Error('the server does not take the connection'));
    });
    setInterval(() => this.#say({ type: 'ping', timestamp: Date.now() }), PING_INTERVAL_MS);
    const routerRtpCapabilities = await this.#ask<types.RtpCapabilities>('getRouterCapabilities');
    await this.#device.load({ routerRtpCapabilities });
    await this.#ask('setRtpCapabilities', { rtpCapabilities: this.#device.rtpCapabilities });
    this.#send = this.#device.createSendTransport(await this.#transport('send'));
    this.#connects(this.#send);
    this.#send.on('produce', ({ kind, rtpParameters, appData }, done, fail) => {
      const transportId = this.#send?.id;
      this.#ask<{ producerId: string }>('produce', {
        transportId,
        kind,
        rtpParameters,
        appData,
      }).then(({ producerId }) => done({ id: producerId }), fail);
    });
    this.#recv = this.#device.createRecvTransport(await this.#transport('recv'));
    this.#connects(this.#recv);
    await this.#produce();
  }

  async state(): Promise<HookState> {
    const { asked, errors } = this;
    const received = await Promise.all(this.#consumers.map(receivedOf));
    return {
      mediasoupVersion: version,
      handler: this.#device.handlerName,
      received,
      errors,
      asked,
    };
  }

  leave(): void {
    for (const track of this.#tracks) track.stop();
    this.#send?.close();
    this.#recv?.close();
    this.#socket.close();
  }

  async #produce(): Promise<void> {
    const video = { width: 640, height: 360, frameRate: 15 };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video });
    this.#tracks.push(...stream.getTracks());
    for (const track of stream.getTracks()) {
      const isVideo = track.kind === 'video';
      await this.#send?.produce({
        track,
        ...(isVideo ? { encodings: WEBCAM } : {}),
        codecOptions: isVideo
          ? { videoGoogleStartBitrate: 1000 }
          : { opusStereo: true, opusFec: true, opusDtx: true, opusMaxAverageBitrate: 128_000 },
        appData: { source: isVideo ? 'webcam' : 'microphone' },
      });
    }
  }

  #transport(direction: 'send' | 'recv'): Promise<types.TransportOptions> {
    return this.#ask('createTransport', { direction });
  }

  #connects(transport: types.Transport): void {
    transport.on('connect', ({ dtlsParameters }, done, fail) => {
      const { id: transportId } = transport;
      this.#ask('connectTransport', { transportId, dtlsParameters }).then(() => done(), fail);
    });
  }

  #ask<Answer>(name: string, data: object = {}): Promise<Answer> {
    this.#lastId += 1;
    const id = `${name}-${this.#lastId}`;
    this.asked.push(name);
    this.#say({ type: `mediasoup:${name}`, id, data: { ...this.#identity, ...data } });
    return new Promise((resolve, reject) => {
      this.#pending.set(id, ({ type, data, error }) => {
        if (type === 'response') return resolve(data as Answer);
        this.errors.push(`${name}: ${error}`);
        reject(new Error(error));
      });
    });
  }

  #say(frame: object): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  #frame(frame: Frame): void {
    const answered = frame.id === undefined ? undefined : this.#pending.get(frame.id);
    if (answered) {
      this.#pending.delete(frame.id as string);
      answered(frame);
    } else if (frame.type === 'error') {
      this.errors.push(`unasked: ${frame.error}`);
    } else if (frame.type === 'mediasoup:newProducer') {
      const { producerId } = frame.data as { producerId: string };
      const { rtpCapabilities } = this.#device;
      // At once, and never again; what it answers is told by the event.
      this.#ask('consume', { producerId, rtpCapabilities }).catch(() => undefined);
    } else if (frame.type === 'mediasoup:newConsumer') {
      const { participantId, consumerData } = frame.data as {
        participantId: string;
        consumerData: ConsumerData;
      };
      this.#consume(participantId, consumerData).catch((error) => {
        this.errors.push(`newConsumer: ${error}`);
      });
    }
  }

  async #consume(participantId: string, data: ConsumerData): Promise<void> {
    if (!this.#recv) throw new Error('there is no transport to receive on');
    const consumer = await this.#recv.consume(data);
    this.#consumers.push({ participantId, consumer });
    const element = document.createElement(data.kind);
    element.autoplay = true;
    element.muted = data.kind === 'video';
    element.srcObject = new MediaStream([consumer.track]);
    document.body.append(element);
  }
}

async function receivedOf({
  participantId,
  consumer,
}: {
  participantId: string;
  consumer: types.Consumer;
}): Promise<HookReceived> {
  let inbound: Record<string, unknown> = {};
  (await consumer.getStats()).forEach((report) => {
    if (report.type === 'inbound-rtp') inbound = report;
  });
  const number = (key: string) => Number(inbound[key] ?? 0);
  return {
    participantId,
    kind: consumer.kind,
    source: consumer.appData.source,
    framesDecoded: number('framesDecoded'),
    frameWidth: number('frameWidth'),
    packetsReceived: number('packetsReceived'),
    packetsLost: number('packetsLost'),
    audioLevel: number('audioLevel'),
    totalAudioEnergy: number('totalAudioEnergy'),
  };
}

const clients = new Map<string, HookClient>();

function find(participantId: string): HookClient {
  const client = clients.get(participantId);
  if (!client) throw new Error(`${participantId} is not on this page`);
  return client;
}

const hook = {
  async join(participantId: string, url: string, meetingId: string) {
    const client = new HookClient(url, meetingId, participantId);
    clients.set(participantId, client);
    await client.start();
  },
  state: (participantId: string) => find(participantId).state(),
  async leave(participantId: string) {
    find(participantId).leave();
    clients.delete(participantId);
  },
};

/** What tests can call from outside. */
export type Hook = typeof hook;

declare global {
  interface Window {
    hook: Hook;
  }
}

window.hook = hook;
