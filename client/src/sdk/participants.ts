import type { Reaction } from '../data/conversation';
import type { TrackState } from '../e2ee/index';

/**
 * How far someone's media are encrypted end to end. `pending`: no frame has come yet. `not-encrypted`: they come in the
 * clear, and are not played.
 */
export type EncryptionState = TrackState | 'not-encrypted';

/** Where a track comes from. */
export type Source = 'camera' | 'microphone' | 'screen' | 'screenAudio';

/** One track of a participant, as this client sees it. */
export interface Media {
  readonly producerId: string;
  /** `null` until the first packet can be played. */
  readonly track: MediaStreamTrack | null;
  /** Its owner paused it: a muted microphone. */
  readonly paused: boolean;
}

/** Someone in the meeting. */
export interface Participant {
  readonly id: string;
  readonly displayName: string;
  readonly isLocal: boolean;
  readonly isSpeaking: boolean;
  readonly media: Readonly<Partial<Record<Source, Media>>>;
  /** The worst of their tracks; absent where nothing is encrypted. */
  readonly encryption?: EncryptionState;
  /** Since when their hand is raised: Unix time, milliseconds, by this end's clock. */
  readonly handRaisedAt?: number;
  /** What they show for a moment. */
  readonly reaction?: Reaction;
}

/** Reads the source out of the `appData` of OpenCall and of mediasoup's demo, old and new. */
export function sourceOf(kind: 'audio' | 'video', appData: Record<string, unknown>): Source {
  const source = appData.source;
  const isScreen =
    source === 'screen' ||
    source === 'screensharing' ||
    source === 'screenAudio' ||
    appData.share === true;
  if (kind === 'audio') return isScreen ? 'screenAudio' : 'microphone';
  return isScreen ? 'screen' : 'camera';
}

/** The name a producer's `appData` carries, if any. */
export function displayNameOf(appData: Record<string, unknown>): string | undefined {
  const name = appData.displayName;
  return typeof name === 'string' && name.trim() !== '' ? name.trim() : undefined;
}

/** The people of a meeting; every change makes new objects, so that views can compare by identity. */
export class Roster {
  #participants: readonly Participant[] = [];

  /** In the order in which they came. */
  get all(): readonly Participant[] {
    return this.#participants;
  }

  find(id: string): Participant | undefined {
    return this.#participants.find((participant) => participant.id === id);
  }

  /** Adds someone, or gives them a new name. Without a name, the id is shown until one is known. */
  upsert(id: string, options: { displayName?: string | undefined; isLocal?: boolean } = {}): void {
    const known = this.find(id);
    if (!known) {
      const participant: Participant = {
        id,
        displayName: options.displayName ?? id,
        isLocal: options.isLocal ?? false,
        isSpeaking: false,
        media: {},
      };
      this.#participants = [...this.#participants, participant];
      return;
    }
    if (options.displayName === undefined || options.displayName === known.displayName) return;
    this.#replace({ ...known, displayName: options.displayName });
  }

  remove(id: string): void {
    this.#participants = this.#participants.filter((participant) => participant.id !== id);
  }

  /** Forgets everyone but the local participant. */
  clearRemote(): void {
    this.#participants = this.#participants.filter((participant) => participant.isLocal);
  }

  /** Nobody can be seen or heard for now, but nobody has left. */
  dropRemoteMedia(): void {
    this.#participants = this.#participants.map((participant) =>
      participant.isLocal ? participant : { ...participant, media: {} },
    );
    this.setSpeaking([]);
  }

  setMedia(id: string, source: Source, media: Media): void {
    const participant = this.find(id);
    if (!participant) return;
    this.#replace({ ...participant, media: { ...participant.media, [source]: media } });
  }

  /** The same where it may be gone, and mostly is what it was. */
  showMedia(id: string, source: Source, media: Media | undefined): void {
    const participant = this.find(id);
    if (!participant || participant.isLocal) return;
    const known = participant.media[source];
    const isSame =
      known?.producerId === media?.producerId &&
      known?.track === media?.track &&
      known?.paused === media?.paused;
    if (isSame) return;
    const { [source]: _, ...others } = participant.media;
    this.#replace({ ...participant, media: media ? { ...others, [source]: media } : others });
  }

  /** Removes the media of a producer, whoever owns it. */
  removeProducer(producerId: string): void {
    const found = this.#byProducer(producerId);
    if (!found) return;
    const media = { ...found.participant.media };
    delete media[found.source];
    this.#replace({ ...found.participant, media });
  }

  /** How far this participant's media are encrypted; `undefined` where encryption is no matter. */
  setEncryption(id: string, encryption: EncryptionState | undefined): void {
    const participant = this.find(id);
    if (!participant || participant.encryption === encryption) return;
    const { encryption: _, ...others } = participant;
    this.#replace(encryption ? { ...others, encryption } : others);
  }

  /** Whether that is news. A hand that stays up keeps its time. */
  setHand(id: string, raisedAt: number | undefined): boolean {
    const participant = this.find(id);
    if (!participant) return false;
    const { handRaisedAt, ...others } = participant;
    if ((handRaisedAt === undefined) === (raisedAt === undefined)) return false;
    this.#replace(raisedAt === undefined ? others : { ...others, handRaisedAt: raisedAt });
    return true;
  }

  setReaction(id: string, reaction: Reaction | undefined): void {
    const participant = this.find(id);
    if (!participant) return;
    const { reaction: _, ...others } = participant;
    this.#replace(reaction ? { ...others, reaction } : others);
  }

  setPaused(producerId: string, paused: boolean): void {
    const found = this.#byProducer(producerId);
    if (!found || found.media.paused === paused) return;
    this.setMedia(found.participant.id, found.source, { ...found.media, paused });
  }

  /** Marks exactly these as speaking; nobody else becomes a new object. */
  setSpeaking(ids: readonly string[]): void {
    const speaking = new Set(ids);
    const isNews = ({ id, isSpeaking }: Participant) => isSpeaking !== speaking.has(id);
    if (!this.#participants.some(isNews)) return;
    this.#participants = this.#participants.map((participant) =>
      isNews(participant)
        ? { ...participant, isSpeaking: speaking.has(participant.id) }
        : participant,
    );
  }

  #byProducer(producerId: string) {
    for (const participant of this.#participants) {
      for (const [source, media] of Object.entries(participant.media)) {
        if (media?.producerId === producerId) {
          return { participant, source: source as Source, media };
        }
      }
    }
    return undefined;
  }

  #replace(participant: Participant): void {
    this.#participants = this.#participants.map((other) =>
      other.id === participant.id ? participant : other,
    );
  }
}
