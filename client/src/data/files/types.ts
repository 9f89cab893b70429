import type { types } from 'mediasoup-client';
import type { Bytes } from '../../e2ee/bytes';
import type { FileMessage } from '../conversation';

/** Where a file stands. `paused`: nothing comes at the moment, and it goes on by itself. */
export type FileState = 'offered' | 'running' | 'paused' | 'done' | 'failed' | 'cancelled';

/** A file that someone offers, or has offered. */
export interface SharedFile {
  /** In this meeting. */
  readonly id: string;
  /** The participant that has it. */
  readonly from: string;
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** A media type; an own guess of who sends it. */
  readonly type: string;
  /** Bytes that have come, or, of one's own, were sent to anyone. */
  readonly transferred: number;
  readonly state: FileState;
  /** When it is done: an address in this page, to be saved under `name`. */
  readonly url?: string;
  readonly mine: boolean;
}

/** One's own channel for one file. */
export interface FileChannel {
  readonly producer: types.DataProducer;
  /** A message as it is sent; `undefined` if it must not be. */
  seal(message: Bytes): Promise<Bytes | undefined>;
  close(): void;
}

/** What files need of their meeting. */
export interface FileHost {
  readonly participantId: string;
  isConnected(): boolean;
  /** Sends to everyone. */
  send(message: FileMessage): Promise<void>;
  /** What is offered has changed. */
  tellOffers(): Promise<void>;
  /** Makes a channel for an own file. */
  openFile(file: string): Promise<FileChannel>;
  /**
   * Takes the channel of someone's file; a function that gives it up, or `undefined` if there is none. `ended` is called
   * once, when it ends without being given up.
   */
  takeFile(
    from: string,
    file: string,
    received: (message: Bytes) => void,
    ended: () => void,
  ): Promise<(() => void) | undefined>;
  changed(): void;
}
