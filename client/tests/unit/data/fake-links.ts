import { type DataHandlers, DataLinks, type DataLinksOptions } from '../../../src/data/dataLinks';
import type { Encryption } from '../../../src/e2ee/index';
import { MeetingError } from '../../../src/sdk/errors';
import type { SignalingChannel } from '../../../src/sdk/signaling';

type Listener = (value?: unknown) => void;

/** One end of a data channel. */
class FakeEnd {
  readonly #listeners = new Map<string, Listener[]>();
  closed = false;
  readyState = 'open';
  binaryType = 'blob';
  bufferedAmount = 0;
  bufferedAmountLowThreshold = 0;

  constructor(
    readonly id: string,
    readonly isSent: (bytes: Uint8Array<ArrayBuffer>) => void = () => undefined,
    readonly isClosed: () => void = () => undefined,
  ) {}

  on(name: string, listener: Listener) {
    this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), listener]);
  }

  once(name: string, listener: Listener) {
    this.on(name, listener);
  }

  off(name: string, listener: Listener) {
    const others = (this.#listeners.get(name) ?? []).filter((one) => one !== listener);
    this.#listeners.set(name, others);
  }

  get observer() {
    return this;
  }

  emit(name: string, value?: unknown) {
    for (const listener of this.#listeners.get(name) ?? []) listener(value);
  }

  send(bytes: Uint8Array<ArrayBuffer>) {
    if (this.closed) throw new Error('closed');
    this.isSent(bytes.slice());
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    this.isClosed();
    this.emit('close');
  }
}

interface Made {
  readonly owner: FakePeer;
  readonly end: FakeEnd;
  readonly label: string;
  readonly protocol: string;
  readonly appData: Record<string, unknown>;
  readonly consumers: Map<string, { peer: FakePeer; end: FakeEnd }>;
}

/** A server's data channels, as far as these clients use them. */
export class FakeRoom {
  readonly producers = new Map<string, Made>();
  readonly peers: FakePeer[] = [];
  readonly consumed: string[] = [];
  /** Data producers that their owners asked to be closed. */
  readonly closed: string[] = [];
  /** Whether channels open; else they stay as they are. */
  opens = true;
  #lastId = 0;

  nextId(): string {
    this.#lastId += 1;
    return `d${this.#lastId}`;
  }

  /** A peer that is announced all there is. */
  join(id: string, encryption?: Encryption): FakePeer {
    const peer = new FakePeer(id, this, encryption);
    for (const [dataProducerId, made] of this.producers) peer.offer(dataProducerId, made, false);
    this.peers.push(peer);
    return peer;
  }

  /** A message on its way to all who take it. */
  carry(made: Made, bytes: Uint8Array<ArrayBuffer>) {
    for (const { end } of made.consumers.values()) end.emit('message', bytes.slice().buffer);
  }

  /** Ends a consumer, as the server does with who cannot keep up. */
  cutOff(peer: FakePeer) {
    for (const made of this.producers.values()) {
      for (const [id, consumer] of made.consumers) {
        if (consumer.peer !== peer) continue;
        made.consumers.delete(id);
        consumer.end.close();
        peer.links.consumerClosed(id);
      }
    }
  }
}

/** One client. */
export class FakePeer {
  links: DataLinks;
  readonly messages: string[] = [];
  readonly found: [string, boolean][] = [];
  readonly states: string[] = [];
  readonly fileChannels: [string, string][] = [];
  dropped = 0;
  refusal: MeetingError | undefined;
  /** Of the session that goes on. */
  transport = { closed: false };
  readonly #ends = new Set<FakeEnd>();

  constructor(
    readonly id: string,
    readonly room: FakeRoom,
    readonly encryption: Encryption | undefined,
  ) {
    this.links = this.#makeLinks();
  }

  get isConnected(): boolean {
    return !this.transport.closed;
  }

  /** The session is lost: nothing of it arrives any more. */
  cut() {
    this.transport.closed = true;
    this.links.close();
    this.room.peers.splice(this.room.peers.indexOf(this), 1);
    for (const made of this.room.producers.values()) {
      for (const [id, { peer }] of made.consumers) if (peer === this) made.consumers.delete(id);
    }
    for (const end of this.#ends) end.close();
    this.#ends.clear();
  }

  /** Another session. */
  connect() {
    this.transport = { closed: false };
    this.links = this.#makeLinks();
    for (const [id, made] of this.room.producers) this.offer(id, made, false);
    this.room.peers.push(this);
  }

  #makeLinks(): DataLinks {
    const session = this.transport;
    const transport = {
      get closed() {
        return session.closed;
      },
      produceData: async (options: { label: string; protocol: string; appData: object }) => {
        if (session.closed) throw new Error('closed');
        return this.#produce(options);
      },
      consumeData: async ({ id, dataProducerId }: { id: string; dataProducerId: string }) => {
        const end = new FakeEnd(id);
        this.#ends.add(end);
        this.room.producers.get(dataProducerId)?.consumers.set(id, { peer: this, end });
        return end;
      },
    };
    return new DataLinks({
      channel: this.#signaling(),
      send: transport as unknown as DataLinksOptions['send'],
      recv: transport as unknown as DataLinksOptions['recv'],
      encryption: this.encryption,
      handlers: this.handlers(),
    });
  }

  handlers(): DataHandlers {
    return {
      messageReceived: (from, bytes) =>
        this.messages.push(`${from}: ${new TextDecoder().decode(bytes)}`),
      messageDropped: () => {
        this.dropped += 1;
      },
      talkerFound: (from, isNew) => this.found.push([from, isNew]),
      talkingBegan: () => undefined,
      fileChannelFound: (from, file) => this.fileChannels.push([from, file]),
      encryptionChanged: ({ participantId, state }) =>
        this.states.push(`${participantId} ${state}`),
    };
  }

  say(text: string): Promise<void> {
    return this.links.send(new TextEncoder().encode(text));
  }

  offer(dataProducerId: string, { owner, label, protocol, appData }: Made, isNew: boolean) {
    const event = { participantId: owner.id, dataProducerId, label, protocol, appData };
    this.links.offered(event, isNew);
  }

  #produce(options: { label: string; protocol: string; appData: object }): FakeEnd {
    if (this.refusal) throw this.refusal;
    const id = this.room.nextId();
    const appData = { ...options.appData } as Record<string, unknown>;
    const end = new FakeEnd(
      id,
      (bytes) => this.room.carry(made, bytes),
      () => {
        this.room.producers.delete(id);
        for (const peer of this.room.peers) if (peer !== this) peer.links.producerClosed(id);
      },
    );
    if (!this.room.opens) end.readyState = 'connecting';
    this.#ends.add(end);
    const made: Made = { owner: this, end, ...options, appData, consumers: new Map() };
    this.room.producers.set(id, made);
    for (const peer of this.room.peers) if (peer !== this) peer.offer(id, made, true);
    return end;
  }

  #signaling(): SignalingChannel {
    const session = this.transport;
    type Data = { dataProducerId: string; dataConsumerId: string };
    const request = async (name: string, { dataProducerId, dataConsumerId }: Data) => {
      if (session.closed) throw new MeetingError('server-gone', 'closed');
      if (name === 'closeDataConsumer') {
        for (const { consumers } of this.room.producers.values()) consumers.delete(dataConsumerId);
      }
      if (name === 'closeDataProducer') this.room.closed.push(dataProducerId);
      if (name !== 'consumeData') return {};
      const made = this.room.producers.get(dataProducerId);
      if (!made) throw new MeetingError('request-refused', 'no such data producer');
      this.room.consumed.push(`${this.id} ${made.owner.id}`);
      const { label, protocol, appData } = made;
      const sctpStreamParameters = { streamId: 1, ordered: true };
      return {
        id: this.room.nextId(),
        dataProducerId,
        sctpStreamParameters,
        label,
        protocol,
        appData,
      };
    };
    return { request } as unknown as SignalingChannel;
  }
}
