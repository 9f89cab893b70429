import type { Device, types } from 'mediasoup-client';
import type { EncryptionOptions, FrameCounts, SharedSecret } from '../e2ee/index';
import { backoffDelayMs } from './backoff';
import { Emitter } from './emitter';
import { asMeetingError, explainDeviceError, MeetingError, type MeetingErrorCode } from './errors';
import { type EncryptionSnapshot, MeetingEncryption } from './meetingEncryption';
import { type EncryptionState, type Participant, Roster, type Source } from './participants';
import type { ConnectionQuality, Layers } from './protocol';
import { type Publication, type RemoteTrack, Session, type SessionHandlers } from './session';
import { type SignalingChannel, WebSocketChannel } from './signaling';
import { readToken } from './token';

/** How to take part in a meeting. */
export interface MeetingOptions {
  /** The server, for example `wss://meet.example/ws`. */
  url: string;
  meetingId: string;
  displayName: string;
  /** Must be unique in the meeting; the token's, or drawn at random, if left out. */
  participantId?: string;
  /** A join token (JWT), where the server wants one. It must be for this meeting and participant. */
  token?: string;
  /** What to ask of the camera. */
  camera?: MediaTrackConstraints;
  /** What to ask of the microphone. */
  microphone?: MediaTrackConstraints;
  /** Video codec to send, for example `video/VP9`; otherwise the server's first. */
  videoCodec?: string;
  /** End-to-end encryption: everything sent is encrypted, and what is not encrypted is not played. */
  encryption?: EncryptionOptions;
  /** Another way to the server than the OpenCall envelope over a WebSocket. */
  openChannel?: () => Promise<SignalingChannel>;
  /** Another WebRTC than this browser's. */
  makeDevice?: () => Promise<Device>;
}

/** Where a meeting stands. */
export type MeetingStatus = 'idle' | 'joining' | 'joined' | 'reconnecting' | 'failed' | 'left';

/** Where a device of one's own stands. */
export type DeviceStatus = 'off' | 'starting' | 'on' | 'muted';

/** All there is to show of a meeting; a new object after every change. */
export interface MeetingSnapshot {
  readonly status: MeetingStatus;
  readonly participants: readonly Participant[];
  /** Loudest first. */
  readonly speakers: readonly string[];
  readonly quality: ConnectionQuality;
  readonly devices: Readonly<Record<'camera' | 'microphone' | 'screen', DeviceStatus>>;
  readonly encryption: EncryptionSnapshot;
  /** The last thing that went wrong and was not dismissed. */
  readonly error: MeetingError | null;
}

/** What a meeting tells. */
export interface MeetingEvents {
  /** The snapshot changed. */
  change: MeetingSnapshot;
  statusChanged: MeetingStatus;
  trackAdded: RemoteTrack;
  /** How far someone's media are encrypted, after each change. */
  encryptionChanged: { participantId: string; state: EncryptionState | undefined };
  error: MeetingError;
}

/** What can be switched on and off. */
export type LocalSource = 'camera' | 'microphone' | 'screen';

interface LocalMedia {
  track: MediaStreamTrack;
  paused: boolean;
  producer: types.Producer | undefined;
}

const CAMERA: MediaTrackConstraints = {
  width: { ideal: 1280 },
  height: { ideal: 720 },
  frameRate: { ideal: 30 },
};

/**
 * What trying again does not mend: a token that was refused, because it has expired for example, is refused for good, and
 * a browser does not learn to encrypt.
 */
const HOPELESS: readonly MeetingErrorCode[] = ['token-refused', 'encryption-unsupported'];

/** Why a track is not sent, where trying again would not help; a lost connection sends it again. */
const REFUSALS: readonly MeetingErrorCode[] = [
  'request-refused',
  'media-unsupported',
  'encryption-unsupported',
];

const MICROPHONE: MediaTrackConstraints = {
  echoCancellation: true,
  noiseSuppression: true,
  autoGainControl: true,
};

/** A meeting, from this participant's side. It outlives lost connections and restarted servers. */
export class Meeting {
  readonly participantId: string;
  readonly #options: MeetingOptions;
  readonly #emitter = new Emitter<MeetingEvents>();
  readonly #roster = new Roster();
  readonly #local = new Map<LocalSource, LocalMedia>();
  readonly #starting = new Set<LocalSource>();
  readonly #consumerIds = new Map<string, string>();
  readonly #queues = new Map<LocalSource, Promise<unknown>>();
  readonly #encryption: MeetingEncryption;
  #session: Session | undefined;
  #status: MeetingStatus = 'idle';
  #speakers: readonly string[] = [];
  #quality: ConnectionQuality = 'excellent';
  #error: MeetingError | null = null;
  #snapshot: MeetingSnapshot;
  /** Grows whenever the user joins or leaves, so that late answers of an older life are ignored. */
  #life = 0;

  constructor(options: MeetingOptions) {
    this.#options = options;
    const identity = options.token ? readToken(options.token).identity : undefined;
    this.participantId = options.participantId ?? identity ?? crypto.randomUUID();
    this.#roster.upsert(this.participantId, { displayName: options.displayName, isLocal: true });
    this.#encryption = new MeetingEncryption(
      options.encryption,
      { meetingId: options.meetingId, participantId: this.participantId },
      { changed: () => this.#changed(), died: (error) => this.#encryptionDied(error) },
    );
    this.#roster.setEncryption(this.participantId, this.#encryption.ownState);
    this.#snapshot = this.#takeSnapshot();
  }

  /** The present state. */
  get snapshot(): MeetingSnapshot {
    return this.#snapshot;
  }

  /** Listens; call the returned function to stop. */
  on<Name extends keyof MeetingEvents>(
    name: Name,
    listener: (value: MeetingEvents[Name]) => void,
  ): () => void {
    return this.#emitter.on(name, listener);
  }

  /** Enters the meeting. Afterwards lost connections are made anew without being asked. */
  async join(): Promise<void> {
    if (this.#status !== 'idle' && this.#status !== 'failed' && this.#status !== 'left') return;
    this.#life += 1;
    this.#error = null;
    this.#setStatus('joining');
    const life = this.#life;
    try {
      await this.#enter(life);
    } catch (error) {
      if (life !== this.#life) return;
      this.#setStatus('failed');
      throw this.#report(error);
    }
  }

  /** Leaves, and gives devices back. */
  leave(): void {
    if (this.#status === 'left') return;
    this.#life += 1;
    this.#session?.close();
    this.#session = undefined;
    for (const source of [...this.#local.keys()]) this.#stopLocal(source);
    this.#forgetRemote();
    this.#encryption.stop();
    this.#setStatus('left');
  }

  /** Starts a device and sends it to the others. Rejects with words for the user if it cannot. */
  enable(source: LocalSource): Promise<void> {
    return this.#inTurn(source, async () => {
      const local = this.#local.get(source);
      if (local) {
        await this.#setPaused(source, local, false);
        return;
      }
      await this.#start(source);
    });
  }

  /** Stops a device; the others see it go. */
  disable(source: LocalSource): Promise<void> {
    return this.#inTurn(source, async () => {
      const producer = this.#stopLocal(source);
      this.#showSending();
      this.#changed();
      if (producer) await this.#session?.unpublish(producer);
    });
  }

  /** Keeps the microphone open but sends nothing. */
  mute(): Promise<void> {
    return this.#inTurn('microphone', async () => {
      const local = this.#local.get('microphone');
      if (local) await this.#setPaused('microphone', local, true);
    });
  }

  /** Opens the microphone, starting it if need be. */
  unmute(): Promise<void> {
    return this.enable('microphone');
  }

  /** Asks for at most this layer of someone's video. */
  async setPreferredLayers(participantId: string, source: Source, layers: Layers): Promise<void> {
    const consumerId = this.#consumerId(participantId, source);
    if (consumerId) await this.#session?.setPreferredLayers(consumerId, layers);
  }

  /** What nobody looks at need not be sent: stops it, or lets it come again. */
  async setReceiving(participantId: string, source: Source, isWanted: boolean): Promise<void> {
    const consumerId = this.#consumerId(participantId, source);
    if (consumerId) await this.#session?.setConsumerPaused(consumerId, !isWanted);
  }

  /** Searches a new network path, for example after the network changed. */
  async restartIce(): Promise<void> {
    await this.#session?.restartIce();
  }

  /** The browser's statistics of both connections. */
  async stats(): Promise<{ send: object[]; recv: object[] }> {
    return (await this.#session?.stats()) ?? { send: [], recv: [] };
  }

  /**
   * Exchanges what encryption rests on, or gives it for the first time; the old one opens frames for ten seconds more.
   * Without a secret nothing is sent and nothing played.
   */
  async setEncryptionSecret(secret: SharedSecret | undefined): Promise<void> {
    await this.#encryption.setSecret(secret);
    this.#roster.setEncryption(this.participantId, this.#encryption.ownState);
    this.#changed();
  }

  /** Frames encrypted, decrypted and dropped so far; `undefined` without encryption. */
  encryptionStats(): Promise<FrameCounts | undefined> {
    return this.#encryption.counts();
  }

  /** The user has read the error. */
  dismissError(): void {
    this.#error = null;
    this.#changed();
  }

  async #enter(life: number): Promise<void> {
    const identity = { meetingId: this.#options.meetingId, participantId: this.participantId };
    const { url, token, displayName, makeDevice } = this.#options;
    this.#encryption.check();
    // A passphrase takes its time, in which the server can be reached.
    const encrypting = this.#encryption.start();
    encrypting.catch(() => undefined);
    const open = this.#options.openChannel ?? (() => WebSocketChannel.open(url, identity, token));
    const channel = await open();
    const encryption = await encrypting.catch((error) => {
      channel.close();
      throw error;
    });
    if (life !== this.#life) return channel.close();
    this.#forgetRemote();
    const session = await Session.enter(channel, this.#handlers(life), {
      displayName,
      makeDevice,
      encryption,
    });
    if (life !== this.#life) return session.close();
    this.#session = session;
    this.#quality = 'excellent';
    this.#setStatus('joined');
    for (const source of this.#local.keys()) void this.#republish(source);
  }

  #handlers(life: number): SessionHandlers {
    const current =
      <Args extends unknown[]>(handler: (...args: Args) => void) =>
      (...args: Args) => {
        if (life !== this.#life) return;
        handler(...args);
        this.#changed();
      };
    return {
      participantJoined: current((id, displayName) => this.#participantJoined(id, displayName)),
      participantLeft: current((id) => {
        this.#roster.remove(id);
        this.#encryption.forgetParticipant(id);
        this.#encryption.rotate();
      }),
      trackAdded: current((track) => this.#trackAdded(track)),
      producerClosed: current((producerId) => {
        this.#consumerIds.delete(producerId);
        this.#roster.removeProducer(producerId);
        const owner = this.#encryption.forgetProducer(producerId);
        if (owner) this.#showEncryption(owner);
      }),
      pausedChanged: current((producerId, paused) => this.#roster.setPaused(producerId, paused)),
      ownMuted: current((producerId, muted) => this.#mutedByServer(producerId, muted)),
      speakersChanged: current((ids) => {
        this.#speakers = ids;
        this.#roster.setSpeaking(ids);
      }),
      qualityChanged: current((quality) => {
        this.#quality = quality;
      }),
      encryptionChanged: current((track) => {
        this.#encryption.note(track);
        this.#showEncryption(track.participantId);
      }),
      lost: current((reason) => {
        this.#session = undefined;
        void this.#reconnect(life, reason);
      }),
    };
  }

  #participantJoined(id: string, displayName: string | undefined): void {
    const isNew = this.#roster.find(id) === undefined;
    this.#roster.upsert(id, { displayName });
    if (!isNew) return;
    this.#encryption.rotate();
    this.#showEncryption(id);
  }

  #showEncryption(participantId: string): void {
    const state = this.#encryption.stateOf(participantId);
    if (this.#roster.find(participantId)?.encryption === state) return;
    this.#roster.setEncryption(participantId, state);
    this.#emitter.emit('encryptionChanged', { participantId, state });
  }

  #showSending(): void {
    this.#encryption.setSending([...this.#local.values()].some(({ producer }) => producer));
  }

  /** Without its worker nothing leaves this browser; the meeting ends rather than go on in the clear. */
  #encryptionDied(error: MeetingError): void {
    this.#life += 1;
    this.#session?.close();
    this.#session = undefined;
    for (const local of this.#local.values()) local.producer = undefined;
    this.#roster.dropRemoteMedia();
    this.#speakers = [];
    this.#setStatus('failed');
    this.#report(error);
  }

  #trackAdded(track: RemoteTrack): void {
    const { participantId, displayName, source, producerId, paused } = track;
    this.#roster.upsert(participantId, { displayName });
    this.#consumerIds.set(producerId, track.consumerId);
    this.#roster.setMedia(participantId, source, { producerId, track: track.track, paused });
    this.#emitter.emit('trackAdded', track);
  }

  async #reconnect(life: number, reason: MeetingError): Promise<void> {
    for (const local of this.#local.values()) local.producer = undefined;
    this.#roster.dropRemoteMedia();
    this.#encryption.forgetAll();
    this.#speakers = [];
    if (reason.code === 'sent-away') {
      this.#setStatus('failed');
      this.#report(reason);
      return;
    }
    this.#setStatus('reconnecting');
    let last = new MeetingError(
      'server-gone',
      'The meeting server does not come back. Try again later.',
    );
    for (let attempt = 0; ; attempt += 1) {
      const delayMs = backoffDelayMs(attempt);
      if (delayMs === null) break;
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      if (life !== this.#life) return;
      try {
        return await this.#enter(life);
      } catch (error) {
        // Shown as "reconnecting"; the words come only when trying ends.
        console.info('opencall: still not connected', error);
        // A new session that was lost again has its own loop.
        if (life !== this.#life || this.#session) return;
        if (error instanceof MeetingError && HOPELESS.includes(error.code)) {
          last = error;
          break;
        }
      }
    }
    this.#setStatus('failed');
    this.#report(last);
  }

  async #start(source: LocalSource): Promise<void> {
    this.#starting.add(source);
    this.#changed();
    try {
      const track = await this.#openDevice(source);
      if (this.#status === 'left') return track.stop();
      track.addEventListener('ended', () => void this.disable(source));
      this.#local.set(source, { track, paused: false, producer: undefined });
      this.#showLocal(source);
      await this.#publish(source);
    } catch (error) {
      this.#stopRefused(source, error);
      throw this.#report(explainDeviceError(error, source));
    } finally {
      this.#starting.delete(source);
      this.#changed();
    }
  }

  async #openDevice(source: LocalSource): Promise<MediaStreamTrack> {
    const devices = navigator.mediaDevices as MediaDevices | undefined;
    if (!devices) {
      throw new MeetingError(
        'insecure-page',
        'Browsers give camera and microphone to https pages only. Open this page with https.',
      );
    }
    const stream = await openStream(devices, source, this.#options);
    const [track] = stream.getTracks();
    if (!track) throw new MeetingError('device-missing', `The browser gave no ${source}.`);
    track.contentHint = source === 'screen' ? 'detail' : '';
    return track;
  }

  async #publish(source: LocalSource): Promise<void> {
    const local = this.#local.get(source);
    const session = this.#session;
    if (!local || local.producer || !session || session.closed) return;
    const publication: Publication = {
      source,
      track: local.track,
      paused: local.paused,
      appData: { displayName: this.#options.displayName },
      mimeType: this.#options.videoCodec,
    };
    local.producer = await session.publish(publication);
    this.#showSending();
    if (this.#local.get(source) !== local) await session.unpublish(local.producer);
  }

  async #republish(source: LocalSource): Promise<void> {
    try {
      await this.#inTurn(source, () => this.#publish(source));
    } catch (error) {
      // A session lost on the way is made anew, and this with it.
      if (this.#status !== 'joined') return;
      this.#stopRefused(source, error);
      this.#report(error);
    }
  }

  /** A device that is not sent, and will not be, does not stay on. */
  #stopRefused(source: LocalSource, error: unknown): void {
    if (error instanceof MeetingError && REFUSALS.includes(error.code)) this.#stopLocal(source);
  }

  async #setPaused(source: LocalSource, local: LocalMedia, paused: boolean): Promise<void> {
    if (local.paused === paused) return;
    local.paused = paused;
    local.track.enabled = !paused;
    this.#showLocal(source);
    if (!local.producer) return;
    try {
      await this.#session?.setProducerPaused(local.producer, paused);
    } catch (error) {
      // What an administrator has muted cannot be resumed.
      if (!paused) this.#showPaused(source, local);
      throw error;
    }
  }

  #showPaused(source: LocalSource, local: LocalMedia): void {
    local.paused = true;
    local.track.enabled = false;
    this.#showLocal(source);
  }

  /** What an administrator mutes is muted here, too; after it is unmuted, it is the person who resumes it. */
  #mutedByServer(producerId: string, muted: boolean): void {
    for (const [source, local] of this.#local) {
      if (muted && local.producer?.id === producerId) this.#showPaused(source, local);
    }
  }

  #consumerId(participantId: string, source: Source): string | undefined {
    const media = this.#roster.find(participantId)?.media[source];
    return media && this.#consumerIds.get(media.producerId);
  }

  #stopLocal(source: LocalSource): types.Producer | undefined {
    const local = this.#local.get(source);
    if (!local) return undefined;
    this.#local.delete(source);
    local.track.stop();
    this.#roster.removeProducer(localProducerId(source));
    return local.producer;
  }

  #showLocal(source: LocalSource): void {
    const local = this.#local.get(source);
    if (!local) return;
    this.#roster.setMedia(this.participantId, source, {
      producerId: localProducerId(source),
      track: local.track,
      paused: local.paused,
    });
    this.#changed();
  }

  #forgetRemote(): void {
    this.#roster.clearRemote();
    this.#roster.setSpeaking([]);
    this.#encryption.forgetAll();
    this.#consumerIds.clear();
    this.#speakers = [];
  }

  /** One change of a device at a time, in the order of the clicks. */
  #inTurn<T>(source: LocalSource, action: () => Promise<T>): Promise<T> {
    const before = this.#queues.get(source) ?? Promise.resolve();
    const result = before.then(action, action);
    this.#queues.set(
      source,
      result.catch(() => undefined),
    );
    return result;
  }

  #report(error: unknown): MeetingError {
    const told = asMeetingError(error);
    this.#error = told;
    this.#changed();
    this.#emitter.emit('error', told);
    return told;
  }

  #setStatus(status: MeetingStatus): void {
    if (this.#status === status) return;
    this.#status = status;
    this.#changed();
    this.#emitter.emit('statusChanged', status);
  }

  #changed(): void {
    this.#snapshot = this.#takeSnapshot();
    this.#emitter.emit('change', this.#snapshot);
  }

  #takeSnapshot(): MeetingSnapshot {
    const device = (source: LocalSource): DeviceStatus => {
      const local = this.#local.get(source);
      if (this.#starting.has(source)) return 'starting';
      if (!local) return 'off';
      return local.paused ? 'muted' : 'on';
    };
    return {
      status: this.#status,
      participants: this.#roster.all,
      speakers: this.#speakers,
      quality: this.#quality,
      devices: {
        camera: device('camera'),
        microphone: device('microphone'),
        screen: device('screen'),
      },
      encryption: this.#encryption.snapshot,
      error: this.#error,
    };
  }
}

function openStream(
  devices: MediaDevices,
  source: LocalSource,
  options: MeetingOptions,
): Promise<MediaStream> {
  switch (source) {
    case 'camera':
      return devices.getUserMedia({ video: { ...CAMERA, ...options.camera } });
    case 'microphone':
      return devices.getUserMedia({ audio: { ...MICROPHONE, ...options.microphone } });
    case 'screen':
      return devices.getDisplayMedia({ video: { frameRate: { max: 30 } } });
  }
}

/** Names one's own media in the roster, which knows producers only. */
function localProducerId(source: LocalSource): string {
  return `local-${source}`;
}
