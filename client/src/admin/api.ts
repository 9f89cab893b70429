/** What `GET /v1/workers` says of one data core. */
export interface Worker {
  core: number;
  port: number;
  state: 'running' | 'draining' | 'removed';
  alive: boolean;
  /** Share of time that it was busy in the last second, 0–1. */
  busy: number;
  receivedPerSecond: number;
  sentPerSecond: number;
  transports: number;
  producers: number;
  consumers: number;
  /** Packets that went no further, by reason, since the start. */
  drops: Record<string, number>;
  died: number;
  stalled: number;
  recovered: number;
}

/** What `GET /v1/workers` says. */
export interface Workers {
  version: string;
  io: string;
  uptimeSeconds: number;
  draining: { reason: string; secondsLeft: number | null } | null;
  rooms: number;
  participants: number;
  connections: number;
  workers: Worker[];
}

/** A room in the list of rooms. */
export interface Room {
  room: string;
  locked: boolean;
  participants: number;
  producers: number;
  consumers: number;
}

/** What a participant sends, without numbers. */
export interface Producer {
  producer: string;
  kind: 'audio' | 'video';
  source: string;
  paused: boolean;
  muted: boolean;
  consumers: number;
}

/** A participant of a room. */
export interface Participant {
  participant: string;
  displayName: string;
  joined: boolean;
  hidden: boolean;
  quality: string | null;
  core: number | null;
  muted: string[];
  transports: number;
  producers: Producer[];
  consumers: number;
}

/** A room with who is in it. */
export interface RoomReport extends Room {
  cores: number[];
  members: Participant[];
}

/** One object of the statistics: of a transport or of a stream. */
export interface Stats {
  type: string;
  transportId?: string;
  producerId?: string;
  consumerId?: string;
  kind?: 'audio' | 'video';
  rid?: string;
  ssrc?: number;
  bitrate?: number;
  packetCount?: number;
  packetsLost?: number;
  fractionLost?: number;
  jitter?: number;
  roundTripTime?: number;
  score?: number;
  sendBitrate?: number;
  recvBitrate?: number;
  availableOutgoingBitrate?: number;
  iceState?: string;
  dtlsState?: string;
}

/** What a participant receives. */
export interface Consumer {
  consumer: string;
  producer: string;
  of: string;
  kind: 'audio' | 'video';
  source: string;
  paused: boolean;
  /** Spatial and temporal layer. */
  layers: [number, number | null] | null;
}

/** A participant with all that it has. */
export interface ParticipantReport extends Participant {
  transportList: { transport: string; direction: 'send' | 'recv' }[];
  consumerList: Consumer[];
  stats: Stats[];
}

/** The server refused, with its code and reason. */
export class Refused extends Error {
  override readonly name = 'Refused';

  constructor(
    readonly status: number,
    readonly code: string,
    reason: string,
  ) {
    super(reason);
  }
}

/** Asks the admin API with a key, which goes nowhere but into this header. */
export async function ask<T>(key: string, path: string): Promise<T> {
  const response = await fetch(path, {
    headers: { Authorization: `Bearer ${key}` },
    cache: 'no-store',
    credentials: 'omit',
  });
  const body: unknown = await response.json().catch(() => ({}));
  if (response.ok) return body as T;
  const { code = 'unknown', reason = `HTTP ${response.status}` } = body as Record<string, string>;
  throw new Refused(response.status, code, reason);
}

/** Where a room is. */
export function roomPath(room: string): string {
  return `/v1/rooms/${encodeURIComponent(room)}`;
}

/** Where a participant is. */
export function participantPath(room: string, participant: string): string {
  return `${roomPath(room)}/participants/${encodeURIComponent(participant)}`;
}
