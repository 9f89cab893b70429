import type { Source } from './participants';
import type { Requests, Rights, ServerEvents, SourceName } from './protocol';

/** Someone who waits to be let in. */
export interface WaitingParticipant {
  readonly id: string;
  readonly name: string;
}

/** What there is to show of hosts, locks and waiting rooms. */
export interface HostingSnapshot {
  /** What this participant may do, once the server has said so. */
  readonly can: Readonly<Rights> | undefined;
  readonly isHost: boolean;
  readonly locked: boolean;
  /** Whether newcomers wait for a host while the room is locked. */
  readonly waitingRoom: boolean;
  /** Whether the server records the meeting, or is about to. */
  readonly isRecorded: boolean;
  /** Who waits, first come first; only hosts know. */
  readonly waiting: readonly WaitingParticipant[];
}

/** What a host mutes: a source, or a kind for someone's camera or microphone. */
export type Mutable = Source | 'audio' | 'video';

const SOURCE_NAMES: Record<Mutable, SourceName> = {
  audio: 'microphone',
  video: 'camera',
  microphone: 'microphone',
  camera: 'camera',
  screen: 'screen_share',
  screenAudio: 'screen_share_audio',
};

/** What the server calls it. */
export function sourceName(what: Mutable): SourceName {
  return SOURCE_NAMES[what];
}

/** What this participant may do in its room, and how the room is. */
export class Hosting {
  #can: Rights | undefined;
  #locked = false;
  #waitingRoom = false;
  #isRecorded = false;
  #waiting: readonly WaitingParticipant[] = [];

  get snapshot(): HostingSnapshot {
    return {
      can: this.#can,
      isHost: this.#can?.host ?? false,
      locked: this.#locked,
      waitingRoom: this.#waitingRoom,
      isRecorded: this.#isRecorded,
      waiting: this.#waiting,
    };
  }

  /** Nothing is known yet of the room of a new session. */
  forget(): void {
    this.#can = undefined;
    this.#locked = false;
    this.#waitingRoom = false;
    this.#isRecorded = false;
    this.#waiting = [];
  }

  /** An older server says nothing of all this. */
  entered(entrance: Requests['setRtpCapabilities']['answer'] | undefined): void {
    this.#can = entrance?.can;
    this.#locked = entrance?.roomLocked ?? false;
    this.#waitingRoom = entrance?.waitingRoom ?? false;
    this.#isRecorded = entrance?.recording ?? false;
  }

  roomLocked({ locked, waitingRoom }: ServerEvents['roomLocked']): void {
    this.#locked = locked;
    this.#waitingRoom = waitingRoom;
  }

  recordingChanged({ recording }: ServerEvents['recordingChanged']): void {
    this.#isRecorded = recording;
  }

  /** Someone waits under this name, or (`undefined`) no more; whether that is someone new. */
  participantWaiting(id: string, name: string | undefined): boolean {
    const isKnown = this.#waiting.some((one) => one.id === id);
    if (name === undefined) this.#waiting = this.#waiting.filter((one) => one.id !== id);
    else if (!isKnown) this.#waiting = [...this.#waiting, { id, name }];
    else this.#waiting = this.#waiting.map((one) => (one.id === id ? { id, name } : one));
    return name !== undefined && !isKnown;
  }
}
