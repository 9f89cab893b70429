import { FakeMediaStreamTrack } from 'fake-mediastreamtrack';
import { Device } from 'mediasoup-client';
import * as fake from 'mediasoup-client/fakeParameters';
import { FakeHandler } from 'mediasoup-client/handlers/FakeHandler';
import { vi } from 'vitest';
import { Emitter } from '../../src/sdk/emitter';
import { MeetingError } from '../../src/sdk/errors';
import type { ListedParticipant, Requests } from '../../src/sdk/protocol';
import type { ChannelEvents, SignalingChannel } from '../../src/sdk/signaling';

type Name = keyof Requests;

/** One connection's other end: notes what is asked, and answers as a server would. */
export class FakeChannel implements SignalingChannel {
  readonly asked: { name: Name; data: Record<string, unknown> }[] = [];
  readonly #emitter = new Emitter<ChannelEvents>();
  readonly refused = new Set<Name>();
  readonly #held = new Map<Name, Promise<void>>();
  readonly #gone = gate();
  isClosed = false;
  /** Its connection stays, and nothing comes over it any more. */
  isFrozen = false;
  pings = 0;
  /** Instead of VP8 and Opus. */
  consumedMimeType: string | undefined;
  /** What it is told of its room. */
  entrance: Requests['setRtpCapabilities']['answer'] = {};
  /** Who is in the room besides, in pages of at most this many. */
  listed: ListedParticipant[] = [];
  pageSize = 100;
  pageRead: (page: readonly ListedParticipant[]) => void = () => undefined;
  #lastId = 0;

  // The answers are of different types for each name, which only the interface knows.
  request = vi.fn(async (name: Name, data: object) => {
    if (name === 'ping') {
      this.pings += 1;
      if (this.isFrozen) return new Promise(() => undefined);
      return {};
    }
    this.asked.push({ name, data: data as Record<string, unknown> });
    await Promise.race([this.#held.get(name), this.#gone.promise]);
    if (this.isClosed) throw new MeetingError('server-gone', 'closed');
    if (this.refused.has(name)) throw new MeetingError('request-refused', `no ${name}`);
    return this.#answer(name, data as Record<string, unknown>);
  }) as unknown as SignalingChannel['request'];

  on<Event extends keyof ChannelEvents>(
    name: Event,
    listener: (value: ChannelEvents[Event]) => void,
  ) {
    return this.#emitter.on(name, listener);
  }

  close(): void {
    this.isClosed = true;
    this.#gone.release();
  }

  /** The server says something by itself. */
  say<Event extends ChannelEvents['event']['name']>(
    name: Event,
    data: Extract<ChannelEvents['event'], { name: Event }>['data'],
  ): void {
    this.#emitter.emit('event', { name, data } as ChannelEvents['event']);
  }

  /** Keeps answers back until the returned function is called. */
  hold(name: Name): () => void {
    const { promise, release } = gate();
    this.#held.set(name, promise);
    return release;
  }

  /** The connection ends. */
  drop(code = 1006, reason = ''): void {
    this.isClosed = true;
    this.#emitter.emit('close', { code, reason });
    this.#gone.release();
  }

  names(): Name[] {
    return this.asked.map(({ name }) => name);
  }

  #answer(name: Name, data: Record<string, unknown>): unknown {
    switch (name) {
      case 'getRouterCapabilities':
        return fake.generateRouterRtpCapabilities();
      case 'setRtpCapabilities':
        return this.entrance;
      case 'createTransport':
        return fake.generateTransportRemoteParameters();
      case 'restartIce':
        return { usernameFragment: 'new', password: 'new' };
      case 'produce':
        this.#lastId += 1;
        return { producerId: `own-${this.#lastId}` };
      case 'consume': {
        const { id, kind, rtpParameters } = fake.generateConsumerRemoteParameters({
          id: `c-${data.producerId}`,
          codecMimeType: String(data.producerId).startsWith('audio') ? 'audio/opus' : 'video/VP8',
        });
        if (this.consumedMimeType) {
          for (const codec of rtpParameters.codecs) codec.mimeType = this.consumedMimeType;
        }
        return { id, producerId: data.producerId, kind, rtpParameters, producerPaused: false };
      }
      case 'getParticipants': {
        const { after, participantIds } = data as Requests['getParticipants']['data'];
        if (participantIds) {
          const named = ({ participantId }: ListedParticipant) =>
            participantIds.includes(participantId);
          return { participants: this.listed.filter(named), next: null };
        }
        const from = 1 + this.listed.findIndex(({ participantId }) => participantId === after);
        if (after !== undefined && from === 0) {
          throw new MeetingError('request-refused', `unknown participant: ${after}`);
        }
        const participants = this.listed.slice(from, from + this.pageSize);
        const isLast = from + this.pageSize >= this.listed.length;
        this.pageRead(participants);
        return { participants, next: isLast ? null : participants.at(-1)?.participantId };
      }
      default:
        return {};
    }
  }
}

/** The handlers of all transports made, in order. */
export const handlers: FakeHandler[] = [];

/** Keeps a browser busy with negotiating what it receives until the returned function is called. */
export function holdReceiving(handler: FakeHandler | undefined): () => void {
  if (!handler) throw new Error('no such transport');
  const { promise, release } = gate();
  const receive = handler.receive.bind(handler);
  handler.receive = async (options) => {
    await promise;
    return receive(options);
  };
  return release;
}

function gate(): { promise: Promise<void>; release: () => void } {
  let release: () => void = () => undefined;
  const promise = new Promise<void>((resolve) => {
    release = resolve;
  });
  return { promise, release };
}

/** A device without a browser. */
export async function makeDevice(): Promise<Device> {
  const { factory, ...handlerFactory } = FakeHandler.createFactory(fake);
  return new Device({
    handlerFactory: {
      ...handlerFactory,
      factory: (options) => {
        const handler = factory(options);
        handlers.push(handler as FakeHandler);
        showSendersAndReceivers(handler as FakeHandler);
        vi.spyOn(handler, 'close');
        return handler;
      },
    },
  });
}

/** Senders and receivers whose owner was asked, in order: what a browser has for each track before it negotiates. */
export const transports: { transform: unknown }[] = [];

/** The fake handler forgets to show them, as real ones do. */
function showSendersAndReceivers(handler: FakeHandler): void {
  const [send, receive] = [handler.send.bind(handler), handler.receive.bind(handler)];
  const shown = () => {
    const transport = { transform: undefined };
    transports.push(transport);
    return transport;
  };
  handler.send = async (options) => {
    options.onRtpSender?.(shown() as unknown as RTCRtpSender);
    return send(options);
  };
  handler.receive = async (list) => {
    for (const options of list) options.onRtpReceiver?.(shown() as unknown as RTCRtpReceiver);
    return receive(list);
  };
}

/** Camera and microphone without a browser. */
export function fakeDevices(): { mediaDevices: object; tracks: FakeMediaStreamTrack[] } {
  const tracks: FakeMediaStreamTrack[] = [];
  const open = async (constraints: { video?: unknown }) => {
    const track = new FakeMediaStreamTrack({ kind: constraints.video ? 'video' : 'audio' });
    tracks.push(track);
    return { getTracks: () => [track] };
  };
  return { mediaDevices: { getUserMedia: open, getDisplayMedia: open }, tracks };
}
