/** Messages between the page and the encryption worker. */
import type { SealableCodec } from './codecs';
import type { CodeMember, EpochSecret, SharedSecret } from './keys';
import type { DropReason } from './opener';

/** The state of a received track's encryption. */
export type TrackState = 'pending' | 'encrypted' | 'waiting-for-key' | 'wrong-key';

/** Options of an `RTCRtpScriptTransform`. */
export type TransformOptions = SendOptions | ReceiveOptions;

export interface SendOptions {
  readonly direction: 'send';
  readonly source: string;
  readonly codec: SealableCodec;
}

export interface ReceiveOptions {
  readonly direction: 'receive';
  /** Chosen by the page; states are reported under it. */
  readonly trackId: number;
  readonly participantId: string;
  readonly salt: Uint8Array<ArrayBuffer>;
  readonly source: string;
  readonly codec: SealableCodec;
}

/** A stream to be opened: one source of one sender session. */
export interface MessageStream {
  readonly participantId: string;
  readonly salt: Uint8Array<ArrayBuffer>;
  readonly source: string;
}

/** From the page. */
export type ToWorker =
  /** Once, first; answered with `started`. */
  | {
      readonly type: 'start';
      readonly meetingId: string;
      readonly participantId: string;
      readonly rotateEveryMs: number;
    }
  /** Answered when it is in use. */
  | {
      readonly type: 'secret';
      readonly id: number;
      readonly secret: SharedSecret | EpochSecret | undefined;
      /** Only what opens this stream; otherwise what opens and seals all. */
      readonly stream?: MessageStream | undefined;
    }
  | { readonly type: 'rotate' }
  /** Answered with the sealed message, or nothing if there is no key. */
  | {
      readonly type: 'seal';
      readonly id: number;
      readonly source: string;
      readonly message: Uint8Array<ArrayBuffer>;
    }
  /** Answered with an `Opened`. */
  | {
      readonly type: 'open';
      readonly id: number;
      readonly stream: MessageStream;
      readonly message: Uint8Array<ArrayBuffer>;
    }
  | { readonly type: 'code'; readonly id: number; readonly members: readonly CodeMember[] }
  | { readonly type: 'counts'; readonly id: number }
  | { readonly type: 'ping' };

/** From the worker. */
export type FromWorker =
  | { readonly type: 'started'; readonly salt: Uint8Array<ArrayBuffer> }
  | { readonly type: 'state'; readonly trackId: number; readonly state: TrackState }
  /** The answer to what had an `id`. */
  | { readonly type: 'answer'; readonly id: number; readonly value: unknown }
  | { readonly type: 'pong' };

/** Frames so far. */
export interface FrameCounts {
  readonly sealed: number;
  /** Not sent: no key, or no frame of its codec. */
  readonly notSealed: number;
  readonly opened: number;
  readonly dropped: Readonly<Record<DropReason, number>>;
  /** Of the keys that seal now. */
  readonly epoch: number;
}
