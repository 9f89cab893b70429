import type { Layers } from './protocol';

/** A window that is resized asks for layers with every pixel: they are asked for when it has come to rest. */
const REST_MS = 200;

interface Wanted {
  /** What the server was asked for last. */
  asked: Layers | undefined;
  newest: Layers;
  timer: ReturnType<typeof setTimeout> | undefined;
}

/** Asks for layers once for each change: the first at once, later ones when no more follow. */
export class LayerRequests {
  readonly #ask: (consumerId: string, layers: Layers) => Promise<unknown>;
  readonly #wanted = new Map<string, Wanted>();

  constructor(ask: (consumerId: string, layers: Layers) => Promise<unknown>) {
    this.#ask = ask;
  }

  /** Rejects only if a request that is sent at once fails. */
  async want(consumerId: string, layers: Layers): Promise<void> {
    const known = this.#wanted.get(consumerId);
    if (!known) {
      const wanted: Wanted = { asked: layers, newest: layers, timer: undefined };
      this.#wanted.set(consumerId, wanted);
      await this.#ask(consumerId, layers).catch((error) => {
        // It may be asked for again.
        if (wanted.asked === layers) wanted.asked = undefined;
        throw error;
      });
      return;
    }
    known.newest = layers;
    clearTimeout(known.timer);
    known.timer = setTimeout(() => this.#settle(consumerId, known), REST_MS);
  }

  forget(consumerId: string): void {
    clearTimeout(this.#wanted.get(consumerId)?.timer);
    this.#wanted.delete(consumerId);
  }

  clear(): void {
    for (const consumerId of [...this.#wanted.keys()]) this.forget(consumerId);
  }

  #settle(consumerId: string, wanted: Wanted): void {
    const { asked, newest } = wanted;
    if (asked?.spatialLayer === newest.spatialLayer && asked.temporalLayer === newest.temporalLayer)
      return;
    wanted.asked = newest;
    this.#ask(consumerId, newest).catch((error) => {
      // It may be asked for again.
      wanted.asked = undefined;
      console.info('opencall: layers stay as they are', error);
    });
  }
}
