import { vi } from 'vitest';
import type { WorkerPort } from '../../src/e2ee/encryption';
import type { FromWorker, ToWorker, TransformOptions } from '../../src/e2ee/messages';

/** An encoded frame as a browser gives it to a worker. */
export interface FakeFrame {
  data: ArrayBuffer;
  getMetadata(): { mimeType?: string };
}

interface Scope {
  onmessage(message: { data: ToWorker }): void;
  onrtctransform(event: { transformer: object }): void;
  postMessage(message: FromWorker): void;
}

/** A track's way through the worker: what is written comes out, or is dropped. */
export interface FakeTrack {
  options: TransformOptions;
  /** The frame as it went on; `undefined` if it was dropped. */
  pass(bytes: Uint8Array, mimeType?: string): Promise<Uint8Array | undefined>;
}

/** The real encryption worker, in this process. */
export class FakeWorker implements WorkerPort {
  onmessage: WorkerPort['onmessage'] = null;
  onerror: WorkerPort['onerror'] = null;
  readonly received: ToWorker[] = [];
  isTerminated = false;
  /** A worker that hangs. */
  isDeaf = false;
  readonly #scope: Scope;

  private constructor(scope: Scope) {
    this.#scope = scope;
    scope.postMessage = (data) => {
      // Later, as between threads.
      queueMicrotask(() => {
        if (!this.isTerminated) this.onmessage?.({ data } as MessageEvent<FromWorker>);
      });
    };
  }

  static async load(): Promise<FakeWorker> {
    const scope = {} as Scope;
    vi.stubGlobal('self', scope);
    vi.resetModules();
    await import('../../src/e2ee/worker');
    vi.stubGlobal('self', undefined);
    return new FakeWorker(scope);
  }

  postMessage(message: ToWorker): void {
    this.received.push(message);
    if (!this.isDeaf && !this.isTerminated) this.#scope.onmessage({ data: message });
  }

  terminate(): void {
    this.isTerminated = true;
  }

  /** As a browser does when a track gets its transform. */
  track(options: TransformOptions): FakeTrack {
    const passed: FakeFrame[] = [];
    let ready = deferred<ReadableStreamDefaultController<FakeFrame>>();
    const readable = new ReadableStream<FakeFrame>(
      // Asked for the next one when the one before is through, or dropped.
      { pull: (controller) => ready.resolve(controller) },
      { highWaterMark: 0 },
    );
    const writable = new WritableStream<FakeFrame>({ write: (frame) => void passed.push(frame) });
    this.#scope.onrtctransform({ transformer: { readable, writable, options } });
    return {
      options,
      pass: async (bytes, mimeType) => {
        const controller = await ready.promise;
        ready = deferred();
        const getMetadata = () => (mimeType ? { mimeType } : {});
        controller.enqueue({ data: Uint8Array.from(bytes).buffer, getMetadata });
        await ready.promise;
        await new Promise((resolve) => tick(resolve));
        const [frame] = passed.splice(0);
        return frame && new Uint8Array(frame.data);
      },
    };
  }
}

/** Not that of tests which stop the clock. */
const tick = setImmediate;

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

/** Stands for the browser's transforms; each notes its options. */
export class FakeTransform {
  constructor(
    readonly worker: FakeWorker,
    readonly options: TransformOptions,
  ) {}
}
