/** What the address bar and the last visit say. */
export interface Settings {
  room: string;
  name: string;
  autojoin: boolean;
  camera: boolean;
  microphone: boolean;
  /** Only for trying things: size and rate of the camera, codec. */
  video: MediaTrackConstraints;
  codec: string | undefined;
}

/** The part of `Storage` that is needed. */
export type Memory = Pick<Storage, 'getItem' | 'setItem'>;

const NAME_KEY = 'opencall.name';
const ROOM_KEY = 'opencall.room';

/** Longest room or name that is taken; longer ones break layouts, not servers. */
const MAX_LENGTH = 64;

/** Reads `?room=…&name=…&autojoin=1&camera=0&microphone=0&height=360&fps=15&codec=VP9`. */
export function readSettings(query: string, memory: Memory): Settings {
  const parameters = new URLSearchParams(query);
  const text = (name: string, key: string) =>
    (parameters.get(name) ?? memory.getItem(key) ?? '').trim().slice(0, MAX_LENGTH);
  const video: MediaTrackConstraints = {};
  const height = positive(parameters.get('height'));
  const fps = positive(parameters.get('fps'));
  if (height) {
    video.height = { ideal: height };
    video.width = { ideal: Math.round((height * 16) / 9) };
  }
  if (fps) video.frameRate = { ideal: fps, max: fps };
  const codec = parameters.get('codec');
  return {
    room: text('room', ROOM_KEY),
    name: text('name', NAME_KEY),
    autojoin: parameters.get('autojoin') === '1',
    camera: parameters.get('camera') !== '0',
    microphone: parameters.get('microphone') !== '0',
    video,
    codec: codec ? `video/${codec}` : undefined,
  };
}

/** For the next visit. */
export function remember({ room, name }: Pick<Settings, 'room' | 'name'>, memory: Memory): void {
  memory.setItem(ROOM_KEY, room);
  memory.setItem(NAME_KEY, name);
}

/** The address that brings others here. */
export function inviteLink(origin: string, room: string): string {
  return `${origin}/?${new URLSearchParams({ room })}`;
}

function positive(text: string | null): number | undefined {
  const value = Number(text);
  return Number.isFinite(value) && value > 0 ? value : undefined;
}
