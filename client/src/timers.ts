/** Timers that end with their owner. */
export class Timers {
  readonly #running = new Set<ReturnType<typeof setTimeout>>();

  /** Does something later, unless `clear` or `cancel` comes first. */
  after(delayMs: number, action: () => void): ReturnType<typeof setTimeout> {
    const timer = setTimeout(() => {
      this.#running.delete(timer);
      action();
    }, delayMs);
    this.#running.add(timer);
    return timer;
  }

  /** One thing that was to be done is not. */
  cancel(timer: ReturnType<typeof setTimeout> | undefined): void {
    if (timer === undefined) return;
    clearTimeout(timer);
    this.#running.delete(timer);
  }

  /** Nothing that was to be done is done any more. */
  clear(): void {
    for (const timer of this.#running) clearTimeout(timer);
    this.#running.clear();
  }
}
