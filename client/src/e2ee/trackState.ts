import type { TrackState } from './messages';
import type { Opened } from './opener';

/** One bad frame may be the network's or the server's doing; so many in a row are a wrong key. */
export const FAILURES_UNTIL_WRONG = 5;

/** Derives the state of one received track from its frames. */
export class TrackWatch {
  #state: TrackState = 'pending';
  #failures = 0;

  /** Notes one frame; the new state, if it changed. */
  note(opened: Opened): TrackState | undefined {
    const next = this.#next(opened);
    if (next === this.#state) return undefined;
    this.#state = next;
    return next;
  }

  #next(opened: Opened): TrackState {
    if ('frame' in opened) {
      this.#failures = 0;
      return 'encrypted';
    }
    switch (opened.drop) {
      case 'no-key':
        return 'waiting-for-key';
      case 'malformed':
      case 'not-authentic':
        this.#failures += 1;
        return this.#failures < FAILURES_UNTIL_WRONG ? this.#state : 'wrong-key';
      case 'replayed':
      case 'old-key':
        // The key was right once.
        return this.#state;
    }
  }
}
