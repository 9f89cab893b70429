import {
  canEncrypt,
  type Encryption,
  type EncryptionOptions,
  type EpochSecret,
  type FrameCounts,
  rotationOf,
  type SharedSecret,
} from '../e2ee/index';
import type { Mls } from '../e2ee/mls/index';
import { MeetingError } from './errors';
import type { TrackEncryption } from './opening';
import type { EncryptionState } from './participants';
import type { SignalingChannel } from './signaling';

/** The state of a meeting's encryption, for display. */
export interface EncryptionSnapshot {
  /**
   * `waiting-for-key`: it is switched on, but without a secret nothing is sent and nothing played. `failed`: the worker
   * ended, and with it the meeting; joining again starts another.
   */
  readonly state: 'off' | 'on' | 'waiting-for-key' | 'failed';
  /**
   * The code that people compare: equal for all who hold the same secret and receive the same senders, or who are in the
   * same epoch of the same MLS group.
   */
  readonly code: string | null;
  /** Who has the keys, where they are those of an MLS group. */
  readonly members?: readonly string[];
}

/** The worst first: a participant is as safe as the least of their tracks. */
const SEVERITY: readonly EncryptionState[] = [
  'not-encrypted',
  'wrong-key',
  'waiting-for-key',
  'encrypted',
  'pending',
];

/** The encryption of one meeting, and what is known of that of the others. */
export class MeetingEncryption {
  readonly #options: EncryptionOptions | undefined;
  readonly #identity: { meetingId: string; participantId: string };
  readonly #changed: () => void;
  readonly #died: (error: MeetingError) => void;
  /** By producer. */
  readonly #tracks = new Map<string, TrackEncryption>();
  #secret: EncryptionOptions['secret'];
  /** What frames are sealed by now, and it will do so with. */
  #held: SharedSecret | EpochSecret | undefined;
  #channel: SignalingChannel | undefined;
  #mls: Mls | undefined;
  #members: readonly string[] | undefined;
  #running: Encryption | undefined;
  #hasFailed = false;
  #isSending = false;
  #code: string | null = null;
  /** Grows with each start and stop, and each question for a code: late answers are ignored. */
  #life = 0;
  #asked = 0;

  constructor(
    options: EncryptionOptions | undefined,
    identity: { meetingId: string; participantId: string },
    handlers: { changed: () => void; died: (error: MeetingError) => void },
  ) {
    this.#options = options;
    this.#identity = identity;
    this.#changed = handlers.changed;
    this.#died = handlers.died;
    this.#choose(options?.secret);
  }

  get snapshot(): EncryptionSnapshot {
    const members = this.#members;
    return { state: this.#state(), code: this.#code, ...(members && { members }) };
  }

  /** How far this end itself is encrypted. */
  get ownState(): EncryptionState | undefined {
    if (!this.#options) return undefined;
    return this.#held ? 'encrypted' : 'waiting-for-key';
  }

  /** Throws with words where encryption is on and this browser cannot. */
  check(): void {
    if (this.#options && !canEncrypt()) {
      throw new MeetingError(
        'encryption-unsupported',
        'This browser cannot encrypt end to end. Use a current one, over https.',
      );
    }
  }

  /** Starts the worker unless it runs; `undefined` only where encryption is off. Rejects with words if it cannot. */
  async start(): Promise<Encryption | undefined> {
    if (!this.#options || this.#running) return this.#running;
    this.#life += 1;
    const life = this.#life;
    const died = (reason: string) => {
      if (life === this.#life) this.#fail(reason);
    };
    let held = this.#held;
    let started: Encryption;
    try {
      const { Encryption } = await import('../e2ee/encryption');
      started = await Encryption.start(
        { ...this.#options, secret: undefined },
        this.#identity,
        died,
      );
      await started.setSecret(held);
      // Another may have been set meanwhile.
      while (held !== this.#held) {
        held = this.#held;
        await started.setSecret(held);
      }
    } catch (error) {
      throw failed(error instanceof Error ? error.message : String(error));
    }
    if (life !== this.#life) {
      started.close();
      throw failed('it was stopped');
    }
    this.#hasFailed = false;
    this.#running = started;
    return started;
  }

  /** A session is entered. */
  connected(channel: SignalingChannel): void {
    this.#channel = channel;
    const life = this.#life;
    this.#joinGroup().catch((error) => {
      if (life !== this.#life) return;
      this.#running?.close();
      this.#fail(error instanceof Error ? error.message : String(error));
    });
  }

  stop(): void {
    this.#life += 1;
    this.#channel = undefined;
    this.#choose(this.#secret);
    this.#running?.close();
    this.#running = undefined;
    this.#isSending = false;
    this.#code = null;
    this.#tracks.clear();
  }

  async setSecret(secret: EncryptionOptions['secret']): Promise<void> {
    if (!this.#options) {
      throw new MeetingError(
        'encryption-unsupported',
        'This meeting was joined without encryption. Leave it, and join with encryption on.',
      );
    }
    this.#choose(secret);
    await this.#running?.setSecret(this.#held);
    this.#refreshCode();
    this.#changed();
    await this.#joinGroup();
  }

  /** Someone came or went. */
  rotate(): void {
    this.#running?.rotate();
  }

  async counts(): Promise<FrameCounts | undefined> {
    return this.#running?.counts();
  }

  /** Whether anything is sent: who sends is part of the code. */
  setSending(isSending: boolean): void {
    if (isSending === this.#isSending) return;
    this.#isSending = isSending;
    this.#refreshCode();
  }

  note(track: TrackEncryption): void {
    const known = this.#tracks.get(track.producerId);
    this.#tracks.set(track.producerId, track);
    if (!known) this.#refreshCode();
  }

  /** Forgets a track; whose it was. */
  forgetProducer(producerId: string): string | undefined {
    const track = this.#tracks.get(producerId);
    if (this.#tracks.delete(producerId)) this.#refreshCode();
    return track?.participantId;
  }

  forgetParticipant(participantId: string): void {
    for (const [producerId, track] of this.#tracks) {
      if (track.participantId === participantId) this.#tracks.delete(producerId);
    }
    this.#refreshCode();
  }

  forgetAll(): void {
    this.#tracks.clear();
    this.#isSending = false;
    this.#refreshCode();
  }

  /** The worst of a participant's tracks; `undefined` where encryption is off and all they send is in the clear. */
  stateOf(participantId: string): EncryptionState | undefined {
    const states = [...this.#tracks.values()]
      .filter((track) => track.participantId === participantId)
      .map(({ state }) => state);
    const worst = SEVERITY.find((state) => states.includes(state));
    return worst ?? (this.#options ? 'pending' : undefined);
  }

  #state(): EncryptionSnapshot['state'] {
    if (!this.#options) return 'off';
    if (this.#hasFailed) return 'failed';
    return this.#held ? 'on' : 'waiting-for-key';
  }

  #choose(secret: EncryptionOptions['secret']): void {
    this.#mls?.close();
    this.#mls = undefined;
    this.#members = undefined;
    this.#secret = secret;
    this.#held = secret?.kind === 'mls' ? undefined : secret;
  }

  /** Takes part in the group that gives keys, where one does. What is behind that is loaded now. */
  async #joinGroup(): Promise<void> {
    const [life, secret, channel] = [this.#life, this.#secret, this.#channel];
    if (secret?.kind !== 'mls' || !this.#options || !channel) return;
    const { checkMls, Mls } = await import('../e2ee/mls/index');
    await checkMls();
    if (life !== this.#life || secret !== this.#secret) return;
    this.#mls ??= new Mls({
      ...this.#identity,
      rotateEveryMs: rotationOf(this.#options),
      entered: ({ secret, code, members }) => {
        this.#held = secret;
        this.#code = code;
        this.#members = members;
        this.#running?.setSecret(secret).catch(() => undefined);
        this.#changed();
      },
    });
    this.#mls.connect(channel);
  }

  #fail(reason: string): void {
    this.#running = undefined;
    this.#life += 1;
    this.#choose(this.#secret);
    this.#hasFailed = true;
    this.#code = null;
    this.#died(failed(reason));
  }

  #refreshCode(): void {
    const running = this.#running;
    this.#asked += 1;
    // A group's is that of its epoch.
    if (!running || this.#secret?.kind === 'mls') return;
    const asked = this.#asked;
    const own = { participantId: this.#identity.participantId, salt: running.salt };
    running.code([...(this.#isSending ? [own] : []), ...this.#senders()]).then(
      (code) => {
        if (asked !== this.#asked || code === this.#code) return;
        this.#code = code;
        this.#changed();
      },
      () => undefined,
    );
  }

  /** The sender sessions of the others, each once. */
  #senders() {
    const senders = new Map<string, { participantId: string; salt: Uint8Array<ArrayBuffer> }>();
    for (const { participantId, salt } of this.#tracks.values()) {
      if (salt) senders.set(JSON.stringify([participantId, [...salt]]), { participantId, salt });
    }
    return [...senders.values()];
  }
}

function failed(reason: string): MeetingError {
  return new MeetingError(
    'encryption-failed',
    `Encryption stopped working (${reason}). Nothing is sent any more; join again.`,
    { reason },
  );
}
