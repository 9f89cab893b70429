import type { types } from 'mediasoup-client';
import { backoffDelayMs } from '../sdk/backoff';
import { constraintsOf } from '../sdk/localMedia';
import type { ConsumerData } from '../sdk/protocol';
import { Timers } from '../timers';
import { EventEmitter } from './EventEmitter';
import type { MediasoupService, SendMessage, TransportDirection } from './MediasoupService';

/** How to reconnect; the defaults in brackets. */
export interface ReconnectionConfig {
  /** (10) */
  maxRetries?: number;
  /** Before the second attempt, milliseconds (1000). */
  initialDelay?: number;
  /** (30000) */
  maxDelay?: number;
  /** Each pause is so many times the one before (1.5). */
  backoffMultiplier?: number;
  /** How long an attempt may take, milliseconds (10000). */
  connectionTimeout?: number;
  /** Whether it begins by itself when a transport fails (true). */
  enableAutoReconnect?: boolean;
}

/** Where a reconnection stands. */
export interface ReconnectionState {
  isReconnecting: boolean;
  retryCount: number;
  lastError?: Error;
  /** Unix time, milliseconds. */
  startTime?: number;
  nextRetryTime?: number;
}

/** What a reconnection service tells. */
export interface ReconnectionEvents {
  'reconnection:started': undefined;
  'reconnection:attempt': { attempt: number; maxAttempts: number; nextRetryIn: number };
  'reconnection:success': { attempts: number; duration: number };
  'reconnection:failed': { error: Error; attempts: number; duration: number };
  'reconnection:stopped': undefined;
  'ice:restarted': { direction: TransportDirection };
  'transport:warning': { direction: TransportDirection; state: types.ConnectionState };
  'transport:recovered': { direction: TransportDirection };
  'transport:error': { direction: TransportDirection; error: string };
  'producer:trackReplaced': { producerId: string; track: MediaStreamTrack };
  'producer:replaceTrackFailed': { producerId: string; error: unknown };
}

/** A path that is only disturbed often heals by itself within this time. */
const DISTURBED_MS = 1_500;

/** When a path is searched anew, after that; then everything is made anew. */
const ICE_RESTARTS_AT_MS = [0, 2_000, 4_000];

/** How long the last search may take. */
const LAST_SEARCH_MS = 4_000;

interface Saved {
  producers: {
    id: string;
    track: MediaStreamTrack;
    paused: boolean;
    appData: types.AppData;
    codec: types.RtpCodecCapability | undefined;
  }[];
  consumers: { producerId: string; paused: boolean }[];
}

/**
 * Keeps a service connected: searches a path anew, and where that does not help makes its transports, producers and
 * consumers anew, muted where they were muted. `sendMessage` reaches the server, over whatever connection there is.
 */
export class MediasoupReconnectionService extends EventEmitter<ReconnectionEvents> {
  readonly #service: MediasoupService;
  readonly #send: SendMessage;
  readonly #config: Required<ReconnectionConfig>;
  readonly #timers = new Timers();
  readonly #searching = new Map<TransportDirection, object>();
  readonly #stops: (() => void)[] = [];
  #state: ReconnectionState = { isReconnecting: false, retryCount: 0 };
  #saved: Saved | undefined;
  /** Another with each reconnection: late answers of an older one are ignored. */
  #life: object | undefined;

  constructor(
    service: MediasoupService,
    sendMessage: SendMessage,
    config: ReconnectionConfig = {},
  ) {
    super();
    this.#service = service;
    this.#send = sendMessage;
    this.#config = {
      maxRetries: 10,
      initialDelay: 1_000,
      maxDelay: 30_000,
      backoffMultiplier: 1.5,
      connectionTimeout: 10_000,
      enableAutoReconnect: true,
      ...config,
    };
    service.setSendMessage(sendMessage);
    this.#listen('sendTransport:connectionstatechange', (state) => this.#changed('send', state));
    this.#listen('recvTransport:connectionstatechange', (state) => this.#changed('recv', state));
    this.#listen('producer:trackended', (producerId) => void this.#replaceTrack(producerId));
  }

  getReconnectionState(): ReconnectionState {
    return { ...this.#state };
  }

  setAutoReconnect(isEnabled: boolean): void {
    this.#config.enableAutoReconnect = isEnabled;
  }

  /** Makes everything anew; resolves when that has succeeded or was given up. */
  async startReconnection(): Promise<void> {
    if (this.#state.isReconnecting) return;
    const life = {};
    this.#life = life;
    this.#searching.clear();
    this.#state = { isReconnecting: true, retryCount: 0, startTime: Date.now() };
    this.#saved ??= this.#save();
    this.emit('reconnection:started');
    for (;;) {
      const delayMs = this.#delayMs();
      if (delayMs === null) return this.#giveUp(this.#state.lastError ?? new Error('no attempts'));
      this.#state.nextRetryTime = Date.now() + delayMs;
      if (delayMs > 0) await this.#pause(delayMs);
      if (this.#life !== life) return;
      this.#state.retryCount += 1;
      const { maxRetries: maxAttempts } = this.#config;
      const attempt = this.#state.retryCount;
      this.emit('reconnection:attempt', {
        attempt,
        maxAttempts,
        nextRetryIn: this.#delayMs() ?? 0,
      });
      try {
        await this.#inTime(this.#makeAnew(this.#saved, life));
        if (this.#life === life) this.#succeed();
        return;
      } catch (error) {
        if (this.#life !== life) return;
        this.#state.lastError = error instanceof Error ? error : new Error(String(error));
      }
    }
  }

  stopReconnection(): void {
    if (!this.#state.isReconnecting) return;
    this.#end();
    this.emit('reconnection:stopped');
  }

  /** Lets go of the service, which goes on by itself. */
  dispose(): void {
    this.stopReconnection();
    for (const stop of this.#stops) stop();
    this.#timers.clear();
    this.#searching.clear();
    this.#saved = undefined;
    this.removeAllListeners();
  }

  #listen<
    Name extends
      | 'sendTransport:connectionstatechange'
      | 'recvTransport:connectionstatechange'
      | 'producer:trackended',
  >(
    name: Name,
    listener: (value: Name extends 'producer:trackended' ? string : types.ConnectionState) => void,
  ): void {
    this.#service.on(name, listener as never);
    this.#stops.push(() => this.#service.off(name, listener as never));
  }

  #changed(direction: TransportDirection, state: types.ConnectionState): void {
    if (state === 'connected') {
      if (this.#searching.delete(direction)) this.emit('transport:recovered', { direction });
      return;
    }
    if (state === 'disconnected') {
      this.emit('transport:warning', { direction, state });
      this.#search(direction, DISTURBED_MS);
    } else if (state === 'failed') {
      this.emit('transport:error', { direction, error: 'the path to the server failed' });
      this.#searching.delete(direction);
      this.#search(direction, 0);
    }
  }

  /** Searches a path anew, some times; then makes everything anew. */
  #search(direction: TransportDirection, inMs: number): void {
    const isWanted = this.#config.enableAutoReconnect && !this.#state.isReconnecting;
    if (!isWanted || this.#searching.has(direction)) return;
    const search = {};
    this.#searching.set(direction, search);
    const isOver = () => this.#searching.get(direction) !== search;
    const restart = async () => {
      if (isOver() || this.#service.connectionState(direction) === 'connected') return;
      try {
        await this.#service.restartIce(direction);
        this.emit('ice:restarted', { direction });
      } catch (error) {
        console.info('opencall: a path could not be searched anew', error);
      }
    };
    for (const atMs of ICE_RESTARTS_AT_MS) this.#timers.after(inMs + atMs, () => void restart());
    this.#timers.after(inMs + (ICE_RESTARTS_AT_MS.at(-1) ?? 0) + LAST_SEARCH_MS, () => {
      if (!isOver()) void this.startReconnection();
    });
  }

  #save(): Saved {
    const producers = this.#service.getAllProducers().flatMap((producer) => {
      const { id, track, paused, appData } = producer;
      const mimeType = producer.rtpParameters.codecs[0]?.mimeType;
      const codec = mimeType ? this.#service.sendCodec(mimeType) : undefined;
      return track?.readyState === 'live' ? [{ id, track, paused, appData, codec }] : [];
    });
    const consumers = this.#service
      .getAllConsumers()
      .map(({ producerId, paused }) => ({ producerId, paused }));
    // Those made anew send the same tracks, which must not end with the old ones.
    for (const { id } of producers) this.#service.keepTrackOf(id);
    return { producers, consumers };
  }

  /** In the order in which OpenCall's clients ask. */
  async #makeAnew(saved: Saved, life: object): Promise<void> {
    const ask = async (name: string, data: object) => {
      const answer = await this.#send(`mediasoup:${name}`, data);
      if (this.#life !== life) throw new Error('the reconnection was stopped');
      return answer;
    };
    const service = this.#service;
    const capabilities = await ask('getRouterCapabilities', {});
    service.closeTransports();
    await service.initialize(capabilities);
    const rtpCapabilities = service.getRtpCapabilities();
    // A session that is still there knows them, and says so.
    await ask('setRtpCapabilities', { rtpCapabilities }).catch(() => undefined);
    const send = await ask('createTransport', { direction: 'send' });
    const connect = (transportId: string) => (data: { dtlsParameters: types.DtlsParameters }) =>
      ask('connectTransport', { transportId, ...data });
    await service.createSendTransport(
      send,
      connect(send.id),
      async (data) => (await ask('produce', { transportId: send.id, ...data })).producerId,
      async (data) => (await ask('produceData', { transportId: send.id, ...data })).dataProducerId,
    );
    const recv = await ask('createTransport', { direction: 'recv' });
    await service.createRecvTransport(recv, connect(recv.id));
    for (const { id, track, paused, appData, codec } of saved.producers) {
      await ask('closeProducer', { producerId: id }).catch(() => undefined);
      const producer = await service.produce(track, { appData, ...(codec ? { codec } : {}) });
      if (paused) await service.pauseProducer(producer.id);
    }
    for (const { producerId, paused } of saved.consumers) {
      // Whoever left meanwhile is not there any more; whoever came is told by the server.
      const data: ConsumerData | undefined = await ask('consume', {
        producerId,
        rtpCapabilities,
      }).catch(() => undefined);
      if (!data) continue;
      const consumer = await service.consume(data);
      if (paused) await service.pauseConsumer(consumer.id);
    }
  }

  /** A device was unplugged: sends another of its kind in its place. */
  async #replaceTrack(producerId: string): Promise<void> {
    const producer = this.#service.getProducer(producerId);
    if (!producer || producer.appData.source === 'screen') return;
    try {
      const device = producer.kind === 'audio' ? 'microphone' : 'camera';
      const stream = await navigator.mediaDevices.getUserMedia(constraintsOf(device));
      const [track] = stream.getTracks();
      if (!track) throw new Error('the browser gave no track');
      if (producer.closed) return track.stop();
      track.enabled = !producer.paused;
      await producer.replaceTrack({ track });
      this.emit('producer:trackReplaced', { producerId, track });
    } catch (error) {
      this.emit('producer:replaceTrackFailed', { producerId, error });
    }
  }

  #delayMs(): number | null {
    const { maxRetries, initialDelay, maxDelay, backoffMultiplier } = this.#config;
    return backoffDelayMs(this.#state.retryCount, {
      firstDelayMs: initialDelay,
      maxDelayMs: maxDelay,
      factor: backoffMultiplier,
      jitter: 0.2,
      maxAttempts: maxRetries,
    });
  }

  #succeed(): void {
    const { retryCount: attempts, startTime = Date.now() } = this.#state;
    this.#end();
    this.#saved = undefined;
    this.emit('reconnection:success', { attempts, duration: Date.now() - startTime });
  }

  #giveUp(error: Error): void {
    const { retryCount: attempts, startTime = Date.now() } = this.#state;
    this.#end();
    this.emit('reconnection:failed', { error, attempts, duration: Date.now() - startTime });
  }

  #end(): void {
    this.#life = undefined;
    this.#state = { ...this.#state, isReconnecting: false };
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.#timers.after(delayMs, resolve));
  }

  #inTime<T>(attempt: Promise<T>): Promise<T> {
    const { connectionTimeout } = this.#config;
    return new Promise((resolve, reject) => {
      const late = () => reject(new Error(`not connected within ${connectionTimeout} ms`));
      const timer = this.#timers.after(connectionTimeout, late);
      attempt.then(resolve, reject).finally(() => clearTimeout(timer));
    });
  }
}
