import { Timers } from '../timers';
import { toBase64Url } from './bytes';
import type { SealableCodec } from './codecs';
import { type CodeMember, type EpochSecret, type SharedSecret, SUITE } from './keys';
import type {
  FrameCounts,
  FromWorker,
  MessageStream,
  ToWorker,
  TrackState,
  TransformOptions,
} from './messages';
import type { Opened } from './opener';
import {
  type Announcement,
  type EncryptionOptions,
  ROTATION_PAUSE_MS,
  rotationOf,
} from './options';

/** A received track that is to be opened. */
export interface ReceivedTrack {
  readonly participantId: string;
  readonly source: string;
  readonly salt: Uint8Array<ArrayBuffer>;
  readonly codec: SealableCodec;
  onState(state: TrackState): void;
}

/** The part of `Worker` in use, so that tests can replace it. */
export type WorkerPort = Pick<Worker, 'postMessage' | 'terminate'> & {
  onmessage: ((message: MessageEvent<FromWorker>) => void) | null;
  onerror: ((event: ErrorEvent) => void) | null;
};

/** The worker is asked whether it lives this often… */
const PING_INTERVAL_MS = 3_000;

/** …and taken for dead after so many questions without an answer. A page that slept has answers waiting. */
const MAX_UNANSWERED_PINGS = 3;

/** A worker that has not started by then does not. */
const START_TIMEOUT_MS = 15_000;

/** The page's side of the encryption worker; one for each life in a meeting, over all reconnections of it. */
export class Encryption {
  readonly #worker: WorkerPort;
  readonly #died: (reason: string) => void;
  readonly #states = new Map<number, (state: TrackState) => void>();
  readonly #answers = new Map<number, { resolve: (value: unknown) => void; reject: () => void }>();
  readonly #timers = new Timers();
  #salt: Uint8Array<ArrayBuffer> = new Uint8Array();
  #hasSecret = false;
  #lastId = 0;
  #unanswered = 0;
  #isRotationDue = false;
  #isOver = false;

  private constructor(worker: WorkerPort, died: (reason: string) => void) {
    this.#worker = worker;
    this.#died = died;
  }

  /** Starts the worker; rejects if it does not start. `died` is called if it ends later; nothing is sent any more then. */
  static async start(
    options: Omit<EncryptionOptions, 'secret'> & { secret?: SharedSecret | undefined },
    identity: { meetingId: string; participantId: string },
    died: (reason: string) => void,
  ): Promise<Encryption> {
    const worker = (options.createWorker ?? createWorker)();
    const encryption = new Encryption(worker, died);
    try {
      await encryption.#start(options, identity);
      return encryption;
    } catch (error) {
      encryption.close();
      throw error;
    }
  }

  /** Of this sender session; drawn by the worker. */
  get salt(): Uint8Array<ArrayBuffer> {
    return this.#salt;
  }

  get hasSecret(): boolean {
    return this.#hasSecret;
  }

  /** Goes into the `appData` of each producer. */
  announce(): { e2ee: Announcement } {
    return { e2ee: { version: 1, suite: SUITE.id, salt: toBase64Url(this.#salt) } };
  }

  /** Takes a secret, or takes it away: then nothing is sent. Resolves when it is in use. */
  async setSecret(secret: SharedSecret | EpochSecret | undefined): Promise<void> {
    await this.#ask({ type: 'secret', secret });
    this.#hasSecret = secret !== undefined;
  }

  /** Gives one stream a secret of its own to be opened with. Resolves when it is in use. */
  async setStreamSecret(stream: MessageStream, secret: SharedSecret): Promise<void> {
    await this.#ask({ type: 'secret', secret, stream });
  }

  /** Seals all frames of a sender. Call it before the sender is negotiated. */
  protectSender(sender: RTCRtpSender, source: string, codec: SealableCodec): void {
    sender.transform = this.#transform({ direction: 'send', source, codec });
  }

  /** Opens all frames of a receiver, or drops them. Call the returned function when the track is gone. */
  protectReceiver(receiver: RTCRtpReceiver, track: ReceivedTrack): () => void {
    const { onState, ...stream } = track;
    this.#lastId += 1;
    const trackId = this.#lastId;
    this.#states.set(trackId, onState);
    receiver.transform = this.#transform({ direction: 'receive', trackId, ...stream });
    return () => {
      this.#states.delete(trackId);
    };
  }

  /** Seals a message of a data channel; `undefined` without a key: then it must not be sent. */
  async sealMessage(
    source: string,
    message: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return (await this.#ask({ type: 'seal', source, message })) as
      | Uint8Array<ArrayBuffer>
      | undefined;
  }

  /** Opens a message of a data channel, or says why it cannot. */
  async openMessage(stream: MessageStream, message: Uint8Array<ArrayBuffer>): Promise<Opened> {
    return (await this.#ask({ type: 'open', stream, message })) as Opened;
  }

  /** New keys within a second, because someone came or went. */
  rotate(): void {
    if (this.#isRotationDue || this.#isOver) return;
    this.#isRotationDue = true;
    this.#timers.after(ROTATION_PAUSE_MS, () => {
      this.#isRotationDue = false;
      this.#post({ type: 'rotate' });
    });
  }

  /** The code that people compare; `null` without a secret. */
  async code(members: readonly CodeMember[]): Promise<string | null> {
    return ((await this.#ask({ type: 'code', members })) as string | undefined) ?? null;
  }

  /** Frames sealed, opened and dropped so far. */
  async counts(): Promise<FrameCounts> {
    return (await this.#ask({ type: 'counts' })) as FrameCounts;
  }

  close(): void {
    this.#isOver = true;
    this.#timers.clear();
    for (const { reject } of this.#answers.values()) reject();
    this.#answers.clear();
    this.#worker.terminate();
  }

  async #start(
    options: Omit<EncryptionOptions, 'secret'> & { secret?: SharedSecret | undefined },
    identity: { meetingId: string; participantId: string },
  ): Promise<void> {
    const rotateEveryMs = rotationOf(options);
    await new Promise<void>((resolve, reject) => {
      this.#timers.after(START_TIMEOUT_MS, () => reject(new Error('the worker does not start')));
      this.#worker.onerror = (event) => reject(new Error(event.message || 'it cannot be loaded'));
      this.#worker.onmessage = ({ data }) => {
        if (data.type !== 'started') return;
        this.#salt = data.salt;
        resolve();
      };
      this.#post({ type: 'start', rotateEveryMs, ...identity });
    });
    this.#timers.clear();
    this.#worker.onmessage = ({ data }) => this.#receive(data);
    this.#worker.onerror = (event) => this.#die(event.message || 'an error in the worker');
    this.#watch();
    if (options.secret) await this.setSecret(options.secret);
  }

  #receive(message: FromWorker): void {
    switch (message.type) {
      case 'started':
        return;
      case 'state':
        return this.#states.get(message.trackId)?.(message.state);
      case 'answer':
        this.#answers.get(message.id)?.resolve(message.value);
        this.#answers.delete(message.id);
        return;
      case 'pong':
        this.#unanswered = 0;
        return;
    }
  }

  #watch(): void {
    this.#timers.after(PING_INTERVAL_MS, () => {
      if (this.#unanswered >= MAX_UNANSWERED_PINGS) return this.#die('it does not answer');
      this.#unanswered += 1;
      this.#post({ type: 'ping' });
      this.#watch();
    });
  }

  #die(reason: string): void {
    if (this.#isOver) return;
    this.close();
    this.#died(reason);
  }

  #ask(
    question:
      | { type: 'secret'; secret: SharedSecret | EpochSecret | undefined; stream?: MessageStream }
      | { type: 'code'; members: readonly CodeMember[] }
      | { type: 'seal'; source: string; message: Uint8Array<ArrayBuffer> }
      | { type: 'open'; stream: MessageStream; message: Uint8Array<ArrayBuffer> }
      | { type: 'counts' },
  ): Promise<unknown> {
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      if (this.#isOver) return reject(ended());
      this.#answers.set(id, { resolve, reject: () => reject(ended()) });
      this.#post({ ...question, id });
    });
  }

  #post(message: ToWorker): void {
    this.#worker.postMessage(message);
  }

  #transform(options: TransformOptions): RTCRtpScriptTransform {
    return new RTCRtpScriptTransform(this.#worker as Worker, options);
  }
}

function createWorker(): Worker {
  return new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
}

function ended(): Error {
  return new Error('the encryption worker has ended');
}
