import type { types } from 'mediasoup-client';
import { explainDeviceError, MeetingError, type MeetingErrorCode } from './errors';
import type { Source } from './participants';

/** What can be switched on and off. */
export type LocalSource = 'camera' | 'microphone' | 'screen';

/** Where a device of one's own stands. */
export type DeviceStatus = 'off' | 'starting' | 'on' | 'muted';

/** What people plug in and out. */
export type Device = 'camera' | 'microphone';

/** What a device is asked for. */
export interface DeviceOptions {
  camera?: MediaTrackConstraints | undefined;
  microphone?: MediaTrackConstraints | undefined;
}

/** Tracks that are running already, from a preview for example; they are the meeting's from then on. */
export interface GivenTracks {
  track?: MediaStreamTrack | undefined;
  /** The sound of a screen. */
  sound?: MediaStreamTrack | undefined;
}

/** A track of one's own. */
export interface LocalTrack {
  readonly source: Source;
  track: MediaStreamTrack;
  paused: boolean;
  producer: types.Producer | undefined;
}

/** What local media need of their owner. */
export interface LocalMediaHost {
  /** Sends a track; `undefined` while there is no connection, or if it is lost meanwhile: the next is told all anew. */
  publish(track: LocalTrack): Promise<types.Producer | undefined>;
  unpublish(producer: types.Producer): Promise<void>;
  setProducerPaused(producer: types.Producer, paused: boolean): Promise<void>;
  /** The track to show is another, or none. */
  show(source: Source, track: LocalTrack | undefined): void;
  changed(): void;
  report(error: unknown): MeetingError;
  /** The problem with a device, reported before, is no more. */
  solved(code: MeetingErrorCode): void;
}

/** A device that was unplugged while it was in use. */
interface Lost {
  deviceId: string | undefined;
  /** What to be when it returns, if nothing has taken its place. */
  paused: boolean;
}

const CAMERA: MediaTrackConstraints = {
  width: { ideal: 1280 },
  height: { ideal: 720 },
  frameRate: { ideal: 30 },
};

const MICROPHONE: MediaTrackConstraints = {
  echoCancellation: true,
  noiseSuppression: true,
  autoGainControl: true,
};

/** Why a track is not sent, where trying again would not help; a lost connection sends it again. */
const REFUSALS: readonly MeetingErrorCode[] = [
  'request-refused',
  'media-unsupported',
  'encryption-unsupported',
];

const PERMISSIONS = ['NotAllowedError', 'SecurityError'];

/** One's own devices and screen: opened, muted, replaced when they are unplugged, and sent. */
export class LocalMedia {
  #options: DeviceOptions;
  readonly #host: LocalMediaHost;
  readonly #tracks = new Map<Source, LocalTrack>();
  readonly #starting = new Set<LocalSource>();
  readonly #queues = new Map<LocalSource, Promise<unknown>>();
  readonly #lost = new Map<Device, Lost>();
  /** Producers that a host or an administrator muted. */
  readonly #mutedByServer = new Set<string>();
  #isWatching = false;
  #isOver = false;
  /** Grows with each leaving: what was asked for before must not start afterwards, also if the meeting is entered again. */
  #life = 0;

  constructor(options: DeviceOptions, host: LocalMediaHost) {
    this.#options = options;
    this.#host = host;
  }

  status(source: LocalSource): DeviceStatus {
    if (this.#starting.has(source)) return 'starting';
    const local = this.#tracks.get(source);
    if (!local) return 'off';
    return local.paused ? 'muted' : 'on';
  }

  get isSending(): boolean {
    return [...this.#tracks.values()].some(({ producer }) => producer);
  }

  /** Starts a device and sends it, or opens it again. Rejects with words for the user. */
  enable(source: LocalSource, given: GivenTracks = {}): Promise<void> {
    const life = this.#life;
    return this.#inTurn(source, async () => {
      const local = this.#tracks.get(source);
      if (local) {
        // What is given once more goes on; of two tracks one is enough.
        const used = [...this.#tracks.values()].map(({ track }) => track);
        for (const track of [given.track, given.sound]) {
          if (track && !used.includes(track)) track.stop();
        }
        await this.#resume(local);
        return;
      }
      await this.#start(source, life, () => this.#tracksOf(source, given));
    });
  }

  /** Starts of camera and microphone what is off, with one question to the user. */
  async enableBoth(): Promise<void> {
    const life = this.#life;
    let opened: Promise<Map<Device, MediaStreamTrack>> | undefined;
    const open = async (device: Device, other: Device) => {
      if (this.status(other) === 'off') opened ??= openBoth(this.#options);
      const tracks = await opened;
      const track = tracks?.get(device);
      tracks?.delete(device);
      return track ? [track] : this.#open(device);
    };
    const enable = (device: Device, other: Device) =>
      this.#inTurn(device, async () => {
        if (!this.#tracks.has(device)) await this.#start(device, life, () => open(device, other));
      });
    const results = await Promise.allSettled([
      enable('microphone', 'camera'),
      enable('camera', 'microphone'),
    ]);
    // Whose device was started by another click meanwhile needs no second one.
    const unused = await opened?.catch(() => undefined);
    for (const track of unused?.values() ?? []) track.stop();
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  /** Takes another camera or microphone; of one that is off, from when it is switched on. */
  use(device: Device, deviceId: string): Promise<void> {
    return this.#inTurn(device, async () => {
      this.#prefer(device, deviceId);
      const local = this.#tracks.get(device);
      if (!local || local.track.getSettings?.().deviceId === deviceId) return;
      try {
        const [track] = await this.#open(device, deviceId);
        if (track) await this.#swap(local, track);
      } catch (error) {
        throw this.#host.report(explainDeviceError(error, device));
      } finally {
        this.#host.changed();
      }
    });
  }

  /** Stops a device; the others see it go. */
  disable(source: LocalSource): Promise<void> {
    return this.#inTurn(source, async () => {
      if (isDevice(source)) this.#lost.delete(source);
      await this.#stop(source);
    });
  }

  /** Keeps a device open but sends nothing of it. */
  pause(source: LocalSource): Promise<void> {
    return this.#inTurn(source, async () => {
      const local = this.#tracks.get(source);
      if (local) await this.#setPaused(local, true);
      const lost = isDevice(source) ? this.#lost.get(source) : undefined;
      if (lost) lost.paused = true;
    });
  }

  /** There is a new session, which knows of nothing: sends all again, muted what is muted. */
  publishAll(): void {
    for (const local of this.#tracks.values()) {
      void this.#inTurn(ownerOf(local.source), () => this.#publish(local)).catch((error) => {
        this.#stopRefused(local, error);
        this.#host.report(error);
      });
    }
  }

  /** Pictures are sent anew, in another codec. */
  republishVideo(): void {
    const pictures = [...this.#tracks.values()].filter(({ track }) => track.kind === 'video');
    for (const local of pictures) {
      void this.#inTurn(ownerOf(local.source), async () => {
        const { producer } = local;
        if (!producer) return;
        local.producer = undefined;
        await this.#host.unpublish(producer).catch(notClosed);
        await this.#publish(local);
      }).catch((error) => this.#host.report(error));
    }
  }

  /** What an administrator mutes is muted here, too; after it is unmuted, it is the person who resumes it. */
  mutedByServer(producerId: string, muted: boolean): Source | undefined {
    const local = [...this.#tracks.values()].find(({ producer }) => producer?.id === producerId);
    if (muted) this.#mutedByServer.add(producerId);
    else if (this.#mutedByServer.delete(producerId)) this.#host.solved('muted-by-host');
    if (muted && local) this.#showPaused(local);
    return local?.source;
  }

  /** The session is over, and what was sent on it. */
  forgetProducers(): void {
    for (const local of this.#tracks.values()) local.producer = undefined;
    this.#mutedByServer.clear();
  }

  /** Gives everything back. */
  stopAll(): void {
    for (const local of [...this.#tracks.values()]) this.#remove(local);
    this.#lost.clear();
    this.#isOver = true;
    this.#life += 1;
    if (this.#isWatching) devices()?.removeEventListener?.('devicechange', this.#devicesChanged);
    this.#isWatching = false;
  }

  /** The meeting was left, and is entered again. */
  reopen(): void {
    this.#isOver = false;
  }

  async #start(
    source: LocalSource,
    life: number,
    open: () => Promise<MediaStreamTrack[]>,
  ): Promise<void> {
    this.#starting.add(source);
    this.#host.changed();
    const added: LocalTrack[] = [];
    try {
      const tracks = await open();
      if (this.#isOver || life !== this.#life) {
        for (const track of tracks) track.stop();
        return;
      }
      this.#watchDevices();
      for (const track of tracks) added.push(this.#add(source, track, false));
      for (const local of added) await this.#publish(local);
    } catch (error) {
      for (const local of added) this.#stopRefused(local, error);
      throw this.#host.report(explainDeviceError(error, source));
    } finally {
      this.#starting.delete(source);
      this.#host.changed();
    }
  }

  #add(owner: LocalSource, track: MediaStreamTrack, paused: boolean): LocalTrack {
    const source = owner === 'screen' && track.kind === 'audio' ? 'screenAudio' : owner;
    const local: LocalTrack = { source, track, paused, producer: undefined };
    track.enabled = !paused;
    if (track.kind === 'video') track.contentHint = source === 'screen' ? 'detail' : '';
    this.#tracks.set(source, local);
    this.#watchEnd(local);
    this.#host.show(source, local);
    return local;
  }

  #watchEnd(local: LocalTrack): void {
    const { track, source } = local;
    track.addEventListener('ended', () => {
      if (this.#tracks.get(source) !== local || local.track !== track) return;
      if (isDevice(source)) void this.#inTurn(source, () => this.#replace(source, local, track));
      // A screen without its sound is still one.
      else if (source === 'screenAudio')
        this.#inTurn('screen', () => this.#stop(source)).catch(notClosed);
      else this.disable(source).catch(notClosed);
    });
  }

  /** From now on the browser is asked for this one of a kind, as long as it is there. */
  #prefer(device: Device, deviceId: string): void {
    this.#options = {
      ...this.#options,
      [device]: { ...this.#options[device], deviceId: { ideal: deviceId } },
    };
  }

  async #tracksOf(source: LocalSource, given: GivenTracks): Promise<MediaStreamTrack[]> {
    const { track, sound } = given;
    if (!track || track.readyState === 'ended') return this.#open(source);
    // Switched off and on again it is still the one that was chosen.
    const { deviceId } = track.getSettings?.() ?? {};
    if (isDevice(source) && deviceId) this.#prefer(source, deviceId);
    return sound ? [track, sound] : [track];
  }

  async #open(source: LocalSource, deviceId?: string): Promise<MediaStreamTrack[]> {
    const media = devices();
    if (!media) throw insecurePage();
    const stream =
      source === 'screen'
        ? await openScreen(media)
        : await media.getUserMedia(constraintsOf(source, this.#options, deviceId));
    const tracks = stream.getTracks();
    if (tracks.length === 0) {
      throw new MeetingError('device-missing', `The browser gave no ${source}.`, { source });
    }
    return tracks;
  }

  async #publish(local: LocalTrack): Promise<void> {
    if (local.producer || this.#tracks.get(local.source) !== local) return;
    const producer = await this.#host.publish(local);
    if (!producer) return;
    local.producer = producer;
    if (this.#tracks.get(local.source) !== local) await this.#host.unpublish(producer);
    this.#host.changed();
  }

  /** A device that is not sent, and will not be, does not stay on. */
  #stopRefused(local: LocalTrack, error: unknown): void {
    if (error instanceof MeetingError && REFUSALS.includes(error.code)) this.#remove(local);
  }

  async #setPaused(local: LocalTrack, paused: boolean): Promise<void> {
    if (local.paused === paused) return;
    local.paused = paused;
    local.track.enabled = !paused;
    this.#host.show(local.source, local);
    if (!local.producer) return;
    try {
      await this.#host.setProducerPaused(local.producer, paused);
    } catch (error) {
      // What an administrator has muted cannot be resumed.
      if (!paused) this.#showPaused(local);
      throw error;
    }
  }

  /** Opens what is muted; rejects with words for the user, who sees no other sign that it stays muted. */
  async #resume(local: LocalTrack): Promise<void> {
    try {
      await this.#setPaused(local, false);
    } catch (error) {
      const { source, producer } = local;
      const isMuted = producer && this.#mutedByServer.has(producer.id);
      if (!isMuted) throw this.#host.report(error);
      const words = `A host switched off your ${source}, and alone can let you switch it on.`;
      const options = { cause: error, source };
      throw this.#host.report(new MeetingError('muted-by-host', words, options));
    }
  }

  #showPaused(local: LocalTrack): void {
    local.paused = true;
    local.track.enabled = false;
    this.#host.show(local.source, local);
  }

  async #stop(source: Source): Promise<void> {
    const ending = source === 'screen' ? (['screen', 'screenAudio'] as const) : [source];
    const locals = ending.flatMap((one) => this.#tracks.get(one) ?? []);
    for (const local of locals) this.#remove(local);
    this.#host.changed();
    const closed = await Promise.allSettled(
      locals.flatMap(({ producer }) => (producer ? [this.#host.unpublish(producer)] : [])),
    );
    for (const one of closed) if (one.status === 'rejected') throw one.reason;
  }

  #remove(local: LocalTrack): void {
    if (this.#tracks.get(local.source) === local) this.#tracks.delete(local.source);
    local.track.stop();
    this.#host.show(local.source, undefined);
  }

  /** A device was unplugged: another of its kind takes its place, or nothing until one comes. */
  async #replace(device: Device, local: LocalTrack, ended: MediaStreamTrack): Promise<void> {
    if (this.#tracks.get(device) !== local || local.track !== ended) return;
    const name = ended.label || `Your ${device}`;
    const known = this.#lost.get(device);
    const deviceId = known?.deviceId ?? ended.getSettings?.().deviceId;
    const { paused } = local;
    this.#lost.set(device, { deviceId, paused });
    this.#watchDevices();
    try {
      const [track] = await this.#open(device);
      if (!track) return;
      await this.#swap(local, track);
      const words = `${name} was unplugged. ${track.label || 'Another one'} is used instead.`;
      const facts = { source: device, reason: track.label || 'another' };
      this.#host.report(new MeetingError('device-lost', words, facts));
    } catch {
      await this.#stop(device).catch(() => undefined);
      const words = `${name} was unplugged. Plug it in again, and it goes on.`;
      this.#host.report(new MeetingError('device-lost', words, { source: device }));
    }
  }

  /** Sends another track in the place of the one before; the others see no end. Where it cannot be sent all stays as it was. */
  async #swap(local: LocalTrack, track: MediaStreamTrack): Promise<void> {
    const { producer, track: before } = local;
    const isOurs = () => this.#tracks.get(local.source) === local;
    track.enabled = !local.paused;
    try {
      if (isOurs() && producer && !producer.closed) await producer.replaceTrack({ track });
    } catch (error) {
      // Where the session was lost meanwhile, the next one sends the new track.
      if (!producer?.closed) {
        track.stop();
        throw error;
      }
    }
    // It was switched off meanwhile, or the meeting was left.
    if (!isOurs()) return track.stop();
    local.track = track;
    this.#watchEnd(local);
    before.stop();
    this.#host.show(local.source, local);
  }

  #watchDevices(): void {
    if (this.#isWatching) return;
    this.#isWatching = true;
    devices()?.addEventListener?.('devicechange', this.#devicesChanged);
  }

  readonly #devicesChanged = (): void => {
    for (const device of this.#lost.keys()) {
      this.#inTurn(device, () => this.#takeBack(device)).catch((error) => {
        console.info('opencall: a device that came cannot be used', error);
      });
    }
  };

  /** Something was plugged in: the device that was lost, or, where nothing has its place, any. */
  async #takeBack(device: Device): Promise<void> {
    const lost = this.#lost.get(device);
    const present = await devices()?.enumerateDevices?.();
    if (!lost || !present) return;
    const kind = device === 'camera' ? 'videoinput' : 'audioinput';
    const found = present.filter((one) => one.kind === kind);
    const isBack = found.some(({ deviceId }) => deviceId !== '' && deviceId === lost.deviceId);
    const local = this.#tracks.get(device);
    if (found.length === 0 || (local && !isBack)) return;
    const [track] = await this.#open(device, isBack ? lost.deviceId : undefined);
    if (!track) return;
    // The meeting was left meanwhile.
    if (this.#lost.get(device) !== lost) return track.stop();
    if (isBack || !lost.deviceId) this.#lost.delete(device);
    if (local) await this.#swap(local, track);
    else await this.#publish(this.#add(device, track, lost.paused));
    this.#host.solved('device-lost');
    this.#host.changed();
  }

  /** One change of a device at a time, in the order of the clicks. */
  #inTurn<T>(source: LocalSource, action: () => Promise<T>): Promise<T> {
    const before = this.#queues.get(source) ?? Promise.resolve();
    const result = before.then(action, action);
    const settled = result.catch(() => undefined);
    this.#queues.set(source, settled);
    return result;
  }
}

/** What the server did not close ends with the session, and is sent by nobody. */
function notClosed(error: unknown): void {
  console.info('opencall: what is sent no more could not be closed', error);
}

function isDevice(source: Source): source is Device {
  return source === 'camera' || source === 'microphone';
}

function ownerOf(source: Source): LocalSource {
  return source === 'screenAudio' ? 'screen' : source;
}

function devices(): MediaDevices | undefined {
  return globalThis.navigator?.mediaDevices as MediaDevices | undefined;
}

function insecurePage(): MeetingError {
  return new MeetingError(
    'insecure-page',
    'Browsers give camera and microphone to https pages only. Open this page with https.',
  );
}

/** What to ask the browser for. */
export function constraintsOf(
  device: Device,
  options: DeviceOptions = {},
  deviceId?: string,
): MediaStreamConstraints {
  const exactly = deviceId ? { deviceId: { exact: deviceId } } : {};
  return device === 'camera'
    ? { video: { ...CAMERA, ...options.camera, ...exactly } }
    : { audio: { ...MICROPHONE, ...options.microphone, ...exactly } };
}

/** A screen with its sound, where the browser has it to give. */
function openScreen(media: MediaDevices): Promise<MediaStream> {
  // What is shared is not speech: what helps voices spoils music.
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  return media.getDisplayMedia({ video: { frameRate: { max: 30 } }, audio });
}

/**
 * Camera and microphone by one question. What cannot be opened with the other is left to be opened alone, unless the user
 * has just said no.
 */
async function openBoth(options: DeviceOptions): Promise<Map<Device, MediaStreamTrack>> {
  const media = devices();
  if (!media) throw insecurePage();
  try {
    const stream = await media.getUserMedia({
      ...constraintsOf('camera', options),
      ...constraintsOf('microphone', options),
    });
    return new Map(
      stream.getTracks().map((track) => [track.kind === 'video' ? 'camera' : 'microphone', track]),
    );
  } catch (error) {
    const isDenied = error instanceof Object && 'name' in error && isPermission(error.name);
    if (isDenied && !(await isOneGranted())) throw error;
    return new Map();
  }
}

function isPermission(name: unknown): boolean {
  return typeof name === 'string' && PERMISSIONS.includes(name);
}

/** Whether one of the two was allowed before, so that asking for it alone asks nobody. */
async function isOneGranted(): Promise<boolean> {
  const ask = async (name: string) => {
    const query = { name } as unknown as PermissionDescriptor;
    return (await navigator.permissions?.query(query))?.state === 'granted';
  };
  const answers = await Promise.all(
    ['camera', 'microphone'].map((name) => ask(name).catch(() => false)),
  );
  return answers.some(Boolean);
}
