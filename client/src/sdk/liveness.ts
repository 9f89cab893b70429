/** How often the server is asked whether it is there: noticed is what lasts for two questions. */
const PING_INTERVAL_MS = 2_000;

/** The same while nobody looks. */
const HIDDEN_PING_INTERVAL_MS = 5_000;

/** After so many questions without an answer, or anything else that was heard, the server is gone. */
const MAX_UNANSWERED = 2;

/** What liveness tells its owner. */
export interface LivenessHandlers {
  /** Asks the server; whatever it answers, it lives. */
  ping(): Promise<unknown>;
  /** A question was not answered in time; `false` once something is heard again. */
  unstable(isUnstable: boolean): void;
  /** The server is gone, though its connection is not closed. */
  dead(): void;
}

/**
 * Tells a server that is frozen, or out of reach, from one that has nothing to say: a TCP connection shows neither for
 * minutes.
 */
export class Liveness {
  readonly #handlers: LivenessHandlers;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #unanswered = 0;
  #isUnstable = false;
  #askedAt = 0;
  #intervalMs = PING_INTERVAL_MS;
  #isOver = false;

  constructor(handlers: LivenessHandlers) {
    this.#handlers = handlers;
  }

  start(): void {
    this.#isOver = false;
    this.#unanswered = 0;
    this.#isUnstable = false;
    for (const name of PROBING_EVENTS) globalThis.addEventListener?.(name, this.probe);
    globalThis.document?.addEventListener?.('visibilitychange', this.probe);
    this.#ask();
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    for (const name of PROBING_EVENTS) globalThis.removeEventListener?.(name, this.probe);
    globalThis.document?.removeEventListener?.('visibilitychange', this.probe);
  }

  /** The server said something. */
  heard(): void {
    this.#unanswered = 0;
    if (!this.#isUnstable || this.#isOver) return;
    this.#isUnstable = false;
    this.#handlers.unstable(false);
  }

  /** Asks at once, because something has changed. */
  readonly probe = (): void => {
    if (this.#isOver) return;
    this.#unanswered = 0;
    this.#ask();
  };

  #ask(): void {
    clearTimeout(this.#timer);
    this.#unanswered += 1;
    this.#askedAt = Date.now();
    this.#intervalMs = globalThis.document?.hidden ? HIDDEN_PING_INTERVAL_MS : PING_INTERVAL_MS;
    // A refusal is an answer, and a lost connection is told otherwise.
    this.#handlers.ping().then(
      () => this.heard(),
      () => undefined,
    );
    this.#timer = setTimeout(() => this.#look(), this.#intervalMs);
  }

  #look(): void {
    // A page that slept has heard nothing because it did not listen.
    if (Date.now() - this.#askedAt > 2 * this.#intervalMs) return this.probe();
    if (this.#unanswered >= MAX_UNANSWERED) {
      this.stop();
      this.#handlers.dead();
      return;
    }
    if (this.#unanswered > 0 && !this.#isUnstable) {
      this.#isUnstable = true;
      this.#handlers.unstable(true);
    }
    this.#ask();
  }
}

const PROBING_EVENTS = ['online', 'offline'] as const;
