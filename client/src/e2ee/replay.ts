/**
 * Counters before the newest that are still distinguished. One sender's camera in three layers sends about 100 frames a
 * second: ten seconds, as long as an old key is kept. Higher costs a bit each, lower refuses frames that were repaired.
 */
export const REPLAY_WINDOW = 1024;

/** Which counters of one key have been seen: the newest, and a bit for each of the `REPLAY_WINDOW` up to it. */
export class ReplayWindow {
  readonly #bits = new Uint32Array(REPLAY_WINDOW / 32);
  #newest = -1n;

  /** Whether a frame with this counter may be opened. */
  isFresh(counter: bigint): boolean {
    if (counter > this.#newest) return true;
    return counter > this.#newest - BigInt(REPLAY_WINDOW) && !this.#has(counter);
  }

  /** Notes an authentic frame; false if its counter was seen meanwhile. */
  record(counter: bigint): boolean {
    if (!this.isFresh(counter)) return false;
    if (counter > this.#newest) this.#advance(counter);
    const at = Number(counter % BigInt(REPLAY_WINDOW));
    this.#bits[at >> 5] = (this.#bits[at >> 5] ?? 0) | (1 << (at & 31));
    return true;
  }

  #has(counter: bigint): boolean {
    const at = Number(counter % BigInt(REPLAY_WINDOW));
    return ((this.#bits[at >> 5] ?? 0) & (1 << (at & 31))) !== 0;
  }

  #advance(counter: bigint): void {
    const skipped = counter - this.#newest;
    if (skipped >= BigInt(REPLAY_WINDOW)) {
      this.#bits.fill(0);
    } else {
      for (let passed = this.#newest + 1n; passed < counter; passed += 1n) {
        const at = Number(passed % BigInt(REPLAY_WINDOW));
        this.#bits[at >> 5] = (this.#bits[at >> 5] ?? 0) & ~(1 << (at & 31));
      }
    }
    this.#newest = counter;
  }
}
