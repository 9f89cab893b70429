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
    /** The server's, of the last attempt that produced it. */
    id: string;
    track: MediaStreamTrack;
    paused: boolean;
    appData: types.AppData;
    codec: types.RtpCodecCapability | undefined;
    /** `false` where the track goes on when its producer is closed. */
    stopTracks: boolean;
  }[];
  consumers: { producerId: string; paused: boolean }[];
}

/** One of a reconnection's attempts. */
interface Attempt {
  /** It has failed, took too long or was stopped: whatever it still hears comes to nothing. */
  isOver: boolean;
}

/** With what requests the server takes back its answer. */
// biome-ignore lint/suspicious/noExplicitAny: answers depend on what was asked
const UNDOING: Record<string, (answer: any) => [string, object]> = {
  produce: ({ producerId }) => ['closeProducer', { producerId }],
  produceData: ({ dataProducerId }) => ['closeDataProducer', { dataProducerId }],
  consume: ({ id }) => ['closeConsumer', { consumerId: id }],
};

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
  #attempt: Attempt | undefined;
  /** The service's transports are those of an attempt that is not completed. */
  #isHalfMade = false;
  /** Ends what a reconnection waits for. */
  readonly #waiting = new Set<() => void>();

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
      const current: Attempt = { isOver: false };
      this.#attempt = current;
      try {
        await this.#inTime(this.#makeAnew(this.#saved, current));
        if (this.#life === life) this.#succeed();
        return;
      } catch (error) {
        current.isOver = true;
        if (this.#life !== life) return;
        this.#state.lastError = error instanceof Error ? error : new Error(String(error));
      }
    }
  }

  stopReconnection(): void {
    if (!this.#state.isReconnecting) return;
    this.#abandon();
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
      const stopTracks = this.#service.stopsTrackOf(id);
      const one = { id, paused, appData, codec, stopTracks };
      return track?.readyState === 'live' ? [{ ...one, track }] : [];
    });
    const consumers = this.#service
      .getAllConsumers()
      .map(({ producerId, paused }) => ({ producerId, paused }));
    return { producers, consumers };
  }

  /** In the order in which OpenCall's clients ask. Rejects as soon as the attempt is over. */
  async #makeAnew(saved: Saved, attempt: Attempt): Promise<void> {
    const ask = this.#asker(attempt);
    const service = this.#service;
    await service.initialize(await ask('getRouterCapabilities', {}));
    const rtpCapabilities = service.getRtpCapabilities();
    // A session that is still there knows them, and says so.
    await ask('setRtpCapabilities', { rtpCapabilities }, true);
    const send = await ask('createTransport', { direction: 'send' });
    const recv = await ask('createTransport', { direction: 'recv' });
    // Not before there are others: who has none left has left, to the server.
    this.#closeTransports();
    this.#isHalfMade = true;
    const connect = (transportId: string) => (data: { dtlsParameters: types.DtlsParameters }) =>
      ask('connectTransport', { transportId, ...data });
    await service.createSendTransport(
      send,
      connect(send.id),
      async (data) => (await ask('produce', { transportId: send.id, ...data })).producerId,
      async (data) => (await ask('produceData', { transportId: send.id, ...data })).dataProducerId,
    );
    await service.createRecvTransport(recv, connect(recv.id));
    for (const one of saved.producers) {
      await ask('closeProducer', { producerId: one.id }, true);
      if (one.track.readyState === 'live') await this.#produce(one, attempt);
    }
    for (const { producerId, paused } of saved.consumers) {
      // Whoever left meanwhile is not there any more; whoever came is told by the server.
      const data = await ask('consume', { producerId, rtpCapabilities }, true);
      if (data) await this.#consume(data, paused, attempt);
    }
  }

  /** Asks for an attempt. What `mayFail` is `undefined` if it does; once the attempt is over all reject. */
  #asker(attempt: Attempt) {
    // biome-ignore lint/suspicious/noExplicitAny: answers depend on what is asked
    return async (name: string, data: object, mayFail = false): Promise<any> => {
      this.#check(attempt);
      const answer = await this.#send(`mediasoup:${name}`, data).catch((error) => {
        if (!mayFail) throw error;
      });
      if (attempt.isOver) this.#undo(name, answer);
      this.#check(attempt);
      return answer;
    };
  }

  #check({ isOver }: Attempt): void {
    if (isOver) throw new Error('this attempt is over');
  }

  /** Has the server take back what it answered to an attempt that was over by then. */
  #undo(name: string, answer: unknown): void {
    const undoing = answer ? UNDOING[name]?.(answer) : undefined;
    if (!undoing) return;
    this.#send(`mediasoup:${undoing[0]}`, undoing[1]).catch((error) => {
      console.info('opencall: what came too late could not be closed', error);
    });
  }

  async #produce(saved: Saved['producers'][number], attempt: Attempt): Promise<void> {
    const { track, paused, appData, codec, stopTracks } = saved;
    const options = { appData, stopTracks, ...(codec ? { codec } : {}) };
    const producer = await this.#service.produce(track, options);
    if (attempt.isOver) {
      this.#service.keepTrackOf(producer.id);
      producer.close();
      this.#undo('produce', { producerId: producer.id });
    }
    this.#check(attempt);
    saved.id = producer.id;
    if (paused) await this.#service.pauseProducer(producer.id);
    this.#check(attempt);
  }

  async #consume(data: ConsumerData, paused: boolean, attempt: Attempt): Promise<void> {
    const consumer = await this.#service.consume(data);
    if (attempt.isOver) {
      consumer.close();
      this.#undo('consume', data);
    }
    this.#check(attempt);
    if (paused) await this.#service.pauseConsumer(consumer.id);
    this.#check(attempt);
  }

  /** A device was unplugged: sends another of its kind in its place. */
  async #replaceTrack(producerId: string): Promise<void> {
    const producer = this.#service.getProducer(producerId);
    if (!producer || producer.appData.source === 'screen') return;
    let track: MediaStreamTrack | undefined;
    try {
      const device = producer.kind === 'audio' ? 'microphone' : 'camera';
      const stream = await navigator.mediaDevices.getUserMedia(constraintsOf(device));
      [track] = stream.getTracks();
      if (!track) throw new Error('the browser gave no track');
      if (producer.closed) return track.stop();
      track.enabled = !producer.paused;
      await producer.replaceTrack({ track });
      this.emit('producer:trackReplaced', { producerId, track });
    } catch (error) {
      track?.stop();
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
    // Its transports go on asking.
    this.#attempt = undefined;
    this.#isHalfMade = false;
    this.#end();
    this.#saved = undefined;
    this.emit('reconnection:success', { attempts, duration: Date.now() - startTime });
  }

  #giveUp(error: Error): void {
    const { retryCount: attempts, startTime = Date.now() } = this.#state;
    this.#abandon();
    this.#end();
    this.emit('reconnection:failed', { error, attempts, duration: Date.now() - startTime });
  }

  /** Ends the service's transports. Others will send the same tracks, which must not end with them. */
  #closeTransports(): void {
    for (const { id } of this.#service.getAllProducers()) this.#service.keepTrackOf(id);
    this.#service.closeTransports();
  }

  /** Leaves nothing of attempts that came to nothing: nobody would ever use it. What was there before them stays. */
  #abandon(): void {
    if (!this.#isHalfMade) return;
    this.#isHalfMade = false;
    for (const { id } of this.#service.getAllProducers()) this.#undo('produce', { producerId: id });
    for (const { id } of this.#service.getAllConsumers()) this.#undo('consume', { id });
    this.#closeTransports();
  }

  #end(): void {
    this.#life = undefined;
    if (this.#attempt) this.#attempt.isOver = true;
    this.#attempt = undefined;
    this.#state = { ...this.#state, isReconnecting: false };
    for (const stop of [...this.#waiting]) stop();
  }

  #pause(delayMs: number): Promise<void> {
    return this.#wait((resolve) => this.#timers.after(delayMs, resolve));
  }

  #inTime(attempt: Promise<void>): Promise<void> {
    const { connectionTimeout } = this.#config;
    return this.#wait((resolve, reject) => {
      attempt.then(resolve, reject);
      const late = () => reject(new Error(`not connected within ${connectionTimeout} ms`));
      return this.#timers.after(connectionTimeout, late);
    });
  }

  /** Until that which begins a timer says so, or the reconnection is over; then the timer is, too. */
  #wait(
    begin: (resolve: () => void, reject: (error: unknown) => void) => ReturnType<typeof setTimeout>,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const ended = (end: (error?: unknown) => void) => (error?: unknown) => {
        this.#waiting.delete(stop);
        this.#timers.cancel(timer);
        end(error);
      };
      const stop = ended(() => resolve());
      const timer = begin(stop, ended(reject));
      this.#waiting.add(stop);
    });
  }
}
