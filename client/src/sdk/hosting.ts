import { type Caption, withCaption } from './captions';
import type { Source } from './participants';
import type { Requests, Rights, ServerEvents, SourceName } from './protocol';

/** Someone who waits to be let in. */
export interface WaitingParticipant {
  readonly id: string;
  readonly name: string;
}

/** What a host muted. */
export interface Mute {
  readonly participantId: string;
  readonly source: Source;
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
  /** Whether voices go to a program outside, which makes captions of them, or are about to. */
  readonly isTapped: boolean;
  /** Whether someone in the meeting is broadcast, or is about to be. */
  readonly isBroadcast: boolean;
  /** What people say, as that program understands it, in the order in which they began; the newest 50. */
  readonly captions: readonly Caption[];
  /** Who waits, first come first; only hosts know. */
  readonly waiting: readonly WaitingParticipant[];
  /** What this host muted and has not let be heard and seen again; of what others muted the server says nothing. */
  readonly mutes: readonly Mute[];
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
  #isTapped = false;
  #isBroadcast = false;
  #captions: readonly Caption[] = [];
  #waiting: readonly WaitingParticipant[] = [];
  #mutes: readonly Mute[] = [];

  get snapshot(): HostingSnapshot {
    return {
      can: this.#can,
      isHost: this.#can?.host ?? false,
      locked: this.#locked,
      waitingRoom: this.#waitingRoom,
      isRecorded: this.#isRecorded,
      isTapped: this.#isTapped,
      isBroadcast: this.#isBroadcast,
      captions: this.#captions,
      waiting: this.#waiting,
      mutes: this.#mutes,
    };
  }

  /** The server has done what this host asked. It keeps a mute also of what is not sent now, and of whoever comes back. */
  muted(participantId: string, what: Mutable, muted: boolean): void {
    const source = what === 'audio' ? 'microphone' : what === 'video' ? 'camera' : what;
    const others = this.#mutes.filter(
      (one) => one.participantId !== participantId || one.source !== source,
    );
    this.#mutes = muted ? [...others, { participantId, source }] : others;
  }

  /** The meeting was left. */
  left(): void {
    this.#mutes = [];
  }

  /** Nothing is known yet of the room of a new session. */
  forget(): void {
    this.entered(undefined);
    this.#captions = this.#waiting = [];
  }

  /** An older server says nothing of all this. */
  entered(entrance: Requests['setRtpCapabilities']['answer'] | undefined): void {
    this.#can = entrance?.can;
    this.#locked = entrance?.roomLocked ?? false;
    this.#waitingRoom = entrance?.waitingRoom ?? false;
    this.#isRecorded = entrance?.recording ?? false;
    this.#isBroadcast = entrance?.pushed ?? false;
    this.tapChanged({ tapped: entrance?.tapped ?? false });
  }

  roomLocked({ locked, waitingRoom }: ServerEvents['roomLocked']): void {
    this.#locked = locked;
    this.#waitingRoom = waitingRoom;
  }

  recordingChanged({ recording }: ServerEvents['recordingChanged']): void {
    this.#isRecorded = recording;
  }

  pushChanged({ pushed }: ServerEvents['pushChanged']): void {
    this.#isBroadcast = pushed;
  }

  tapChanged({ tapped }: ServerEvents['tapChanged']): void {
    this.#isTapped = tapped;
    // A tap that begins numbers what is said anew.
    if (tapped) this.#captions = [];
  }

  captioned(event: ServerEvents['caption']): readonly Caption[] {
    this.#captions = withCaption(this.#captions, event);
    return this.#captions;
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
