import {
  type MlsKeys,
  newLinkKey,
  readToken,
  type SharedSecret,
  secretOfLinkKey,
  secretOfPassphrase,
} from '../sdk/index';

/**
 * How the meeting is encrypted end to end: by a key in the link, behind its `#`, which browsers send to no server, by a
 * passphrase that people tell each other, or by the keys of an MLS group of those who are in it. `undefined`: not at all.
 */
export type Lock = { linkKey: string } | { passphrase: string } | 'mls' | undefined;

/** What a link says of it; a passphrase is never in a link. */
export type LinkLock = { linkKey: string } | 'passphrase' | 'mls' | undefined;

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
  /** How often encryption keys rotate, besides at joins and leaves. */
  rotateEveryMs: number | undefined;
  /** The invitation, where the server wants one. */
  token: string | undefined;
  /** How the link says that the meeting is encrypted. */
  lock: LinkLock;
}

/** The part of `Storage` that is needed. */
export type Memory = Pick<Storage, 'getItem' | 'setItem'>;

/** What of the browser keeps a token: its address bar, and what a tab remembers. */
export interface Tab {
  location: Pick<Location, 'pathname' | 'search' | 'hash'>;
  history: Pick<History, 'replaceState'>;
  sessionStorage: Memory;
}

const NAME_KEY = 'opencall.name';
const ROOM_KEY = 'opencall.room';
const TOKEN_KEY = 'opencall.token';

/** Longest room or name that is taken; longer ones break layouts, not servers. */
const MAX_LENGTH = 64;

/**
 * Reads `?room=…&name=…&autojoin=1&camera=0&microphone=0&height=360&fps=15&codec=VP9&rotate=5`, and `#k=…` or
 * `#e2ee=passphrase` or `#e2ee=mls`. A token wins over room and name.
 */
export function readSettings(
  query: string,
  memory: Memory,
  token?: string,
  fragment = '',
): Settings {
  const parameters = new URLSearchParams(query);
  const claims = token ? readToken(token) : {};
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
  const rotate = positive(parameters.get('rotate'));
  return {
    // What the token says is what the server will go by.
    room: claims.room ?? text('room', ROOM_KEY),
    name: claims.name ?? text('name', NAME_KEY),
    autojoin: parameters.get('autojoin') === '1',
    camera: parameters.get('camera') !== '0',
    microphone: parameters.get('microphone') !== '0',
    video,
    codec: codec ? `video/${codec}` : undefined,
    rotateEveryMs: rotate ? rotate * 1000 : undefined,
    token,
    lock: readLock(fragment),
  };
}

/** What the part behind `#` says of encryption. A key that is none is as good as a passphrase nobody knows. */
export function readLock(fragment: string): LinkLock {
  const parameters = new URLSearchParams(fragment.replace(/^#/, ''));
  const linkKey = parameters.get('k');
  if (linkKey && secretOfLinkKey(linkKey)) return { linkKey };
  if (linkKey === null && parameters.get('e2ee') === 'mls') return 'mls';
  return linkKey !== null || parameters.has('e2ee') ? 'passphrase' : undefined;
}

/** What was chosen in the lobby: without a passphrase, the link's key or a new one. */
export function chooseLock(isOn: boolean, passphrase: string, link: LinkLock): Lock {
  if (!isOn || link === 'mls') return isOn ? 'mls' : undefined;
  if (secretOfPassphrase(passphrase)) return { passphrase };
  return typeof link === 'object' ? link : { linkKey: newLinkKey() };
}

/** What the meeting's encryption rests on. */
export function secretOf(lock: NonNullable<Lock>): SharedSecret | MlsKeys | undefined {
  if (lock === 'mls') return { kind: 'mls' };
  return 'linkKey' in lock ? secretOfLinkKey(lock.linkKey) : secretOfPassphrase(lock.passphrase);
}

/**
 * Takes a token out of the address bar (`?token=…` or `#token=…`), so that it is neither copied with the address nor
 * kept in the history. The tab remembers it for reloads, until it goes to another room.
 */
export function adoptToken({ location, history, sessionStorage }: Tab): string | undefined {
  const query = new URLSearchParams(location.search);
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = query.get('token') ?? fragment.get('token');
  if (given) {
    query.delete('token');
    fragment.delete('token');
    const [search, hash] = [query.toString(), fragment.toString()];
    history.replaceState(
      null,
      '',
      location.pathname + (search && `?${search}`) + (hash && `#${hash}`),
    );
    sessionStorage.setItem(TOKEN_KEY, given);
    return given;
  }
  const kept = sessionStorage.getItem(TOKEN_KEY);
  const room = query.get('room');
  return kept && (!room || readToken(kept).room === room) ? kept : undefined;
}

/** For the next visit. */
export function remember({ room, name }: Pick<Settings, 'room' | 'name'>, memory: Memory): void {
  memory.setItem(ROOM_KEY, room);
  memory.setItem(NAME_KEY, name);
}

/** The address that brings others here, with the key if there is one in links. */
export function inviteLink(origin: string, room: string, lock?: Lock): string {
  const address = `${origin}/?${new URLSearchParams({ room })}`;
  if (!lock) return address;
  if (lock === 'mls') return `${address}#e2ee=mls`;
  return `${address}#${'linkKey' in lock ? `k=${lock.linkKey}` : 'e2ee=passphrase'}`;
}

/** The address of a meeting one is in: as others are invited to it, and with what else was behind `#`. */
export function addressOf(
  { origin, hash }: Pick<Location, 'origin' | 'hash'>,
  room: string,
  lock?: Lock,
): string {
  const address = new URL(inviteLink(origin, room, lock));
  const fragment = new URLSearchParams(address.hash.replace(/^#/, ''));
  for (const [name, value] of new URLSearchParams(hash.replace(/^#/, ''))) {
    // The lock is the one chosen in the lobby, and a token is not for copying.
    if (!['k', 'e2ee', 'token'].includes(name)) fragment.set(name, value);
  }
  const behind = fragment.toString();
  return `${address.origin}/${address.search}${behind && `#${behind}`}`;
}

function positive(text: string | null): number | undefined {
  const value = Number(text);
  return Number.isFinite(value) && value > 0 ? value : undefined;
}
