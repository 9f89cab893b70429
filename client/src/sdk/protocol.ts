import type { types } from 'mediasoup-client';
import type { DeliveryEvents, DeliveryRequests } from '../e2ee/mls/delivery';

/** Free-form data that travels with a producer. */
export type AppData = Record<string, unknown>;

/** Which layer of a simulcast or SVC stream to receive. */
export interface Layers {
  spatialLayer: number;
  temporalLayer?: number;
}

/** How the server judges this client's connection. */
export type ConnectionQuality = 'excellent' | 'good' | 'poor' | 'disconnected';

/** What `consume` answers: all that is needed to receive a track. */
export interface ConsumerData {
  id: string;
  producerId: string;
  kind: types.MediaKind;
  rtpParameters: types.RtpParameters;
  appData?: AppData;
  producerPaused?: boolean;
}

/** What `consumeData` answers: all that is needed to receive a data channel. */
export interface DataConsumerData {
  id: string;
  dataProducerId: string;
  sctpStreamParameters: types.SctpStreamParameters;
  label: string;
  protocol: string;
  appData?: AppData;
}

/** What a producer shows or lets be heard, as requests of hosts and tokens name it. */
export type SourceName = 'camera' | 'microphone' | 'screen_share' | 'screen_share_audio';

/** What this client may do. */
export interface Rights {
  /** Mute and remove others, lock the room, let people in. */
  host: boolean;
  publish: boolean;
  sources: SourceName[];
  subscribe: boolean;
  data: boolean;
}

/** What a client says of its device to be advised on codecs. */
export interface CodecHints {
  mobile?: boolean;
  /** `ios`, or anything else. */
  platform?: string;
  /** MIME types. */
  hardwareEncoders?: string[];
  /** Bits per second. */
  uplinkBitrate?: number;
}

/** What the server advises to send; rates in bits per second. */
export interface CodecAdvice {
  /** With `redundancy` each packet repeats the one before (RFC 2198). */
  audio: {
    dtx: boolean;
    fec: boolean;
    redundancy?: boolean;
    stereo: boolean;
    maxBitrate: number;
  };
  video: {
    mimeType: string;
    mode: 'simulcast' | 'svc';
    scalabilityMode: string;
    profile: '180p15' | '360p20' | '720p30';
    minBitrate: number;
    maxBitrate: number;
    maxScreenBitrate: number;
  } | null;
  /** In words. */
  reason: string;
}

/** Requests of the OpenCall envelope: what is asked, and what is answered. */
export interface Requests extends DeliveryRequests {
  /** The name is shown to hosts where a client has to wait to be let in. */
  getRouterCapabilities: { data: { displayName?: string }; answer: types.RtpCapabilities };
  setRtpCapabilities: {
    /** With `resume` the answer has a `resumeToken`, where the server can resume sessions. */
    data: {
      rtpCapabilities: types.RtpCapabilities;
      displayName?: string;
      resume?: boolean;
      /** Asks for advice on codecs. */
      codecHints?: CodecHints | undefined;
    };
    answer: {
      resumeToken?: string;
      can?: Rights;
      roomLocked?: boolean;
      waitingRoom?: boolean;
      recording?: boolean;
      tapped?: boolean;
      pushed?: boolean;
      codecAdvice?: CodecAdvice;
    };
  };
  /** Of hosts: what is muted is not forwarded, and its client cannot resume it. */
  muteParticipant: {
    data: { target: string; source?: SourceName; producerId?: string; muted?: boolean };
    answer: unknown;
  };
  /** Of hosts: ends someone's connection. */
  removeParticipant: { data: { target: string }; answer: unknown };
  /** Of hosts: who comes later is refused, or waits where there is a waiting room. */
  lockRoom: { data: { locked: boolean; waitingRoom?: boolean }; answer: unknown };
  /** Of hosts: lets someone in who waits. */
  admitParticipant: { data: { target: string }; answer: unknown };
  /** Of hosts: sends someone away who waits. */
  denyParticipant: { data: { target: string }; answer: unknown };
  createTransport: { data: { direction: 'send' | 'recv' }; answer: types.TransportOptions };
  connectTransport: {
    data: { transportId: string; dtlsParameters: types.DtlsParameters };
    answer: unknown;
  };
  restartIce: { data: { transportId: string }; answer: types.IceParameters };
  produce: {
    data: {
      transportId: string;
      kind: types.MediaKind;
      rtpParameters: types.RtpParameters;
      appData: AppData;
    };
    answer: { producerId: string };
  };
  closeProducer: { data: { producerId: string }; answer: unknown };
  pauseProducer: { data: { producerId: string }; answer: unknown };
  resumeProducer: { data: { producerId: string }; answer: unknown };
  consume: {
    data: { producerId: string; rtpCapabilities: types.RtpCapabilities };
    answer: ConsumerData;
  };
  produceData: {
    data: {
      transportId: string;
      sctpStreamParameters: types.SctpStreamParameters;
      label?: string | undefined;
      protocol?: string | undefined;
      appData: AppData;
    };
    answer: { dataProducerId: string };
  };
  closeDataProducer: { data: { dataProducerId: string }; answer: unknown };
  consumeData: { data: { dataProducerId: string }; answer: DataConsumerData };
  closeDataConsumer: { data: { dataConsumerId: string }; answer: unknown };
  pauseConsumer: { data: { consumerId: string }; answer: unknown };
  resumeConsumer: { data: { consumerId: string }; answer: unknown };
  setConsumerPreferredLayers: { data: { consumerId: string; layers: Layers }; answer: unknown };
  setConsumerPriority: { data: { consumerId: string; priority: number }; answer: unknown };
  closeConsumer: { data: { consumerId: string }; answer: unknown };
  /** A page of a large room, 100 at most, or those of `participantIds` who are in it. */
  getParticipants: {
    data: { after?: string; limit?: number; participantIds?: readonly string[] };
    answer: { participants?: ListedParticipant[]; next?: string | null; count?: number };
  };
  changeDisplayName: { data: { displayName: string }; answer: unknown };
  getStats: { data: object; answer: unknown };
  /** Takes a session over from a connection that was lost: `received` text frames of it have come. */
  resume: {
    data: { resumeToken: string | undefined; received: number };
    answer: { resumeToken: string; received: number };
  };
  /** Ends a session that will not be resumed. */
  forget: { data: { resumeToken: string }; answer: unknown };
  /** Any answer, a refusal too, shows that the server is there. */
  ping: { data: object; answer: unknown };
}

/** Events of the OpenCall envelope, and what each carries. */
export interface ServerEvents extends DeliveryEvents {
  newProducer: {
    participantId: string;
    producerId: string;
    kind: types.MediaKind;
    appData?: AppData;
  };
  newConsumer: { participantId: string; consumerData: ConsumerData };
  newDataProducer: {
    participantId: string;
    dataProducerId: string;
    label: string;
    protocol: string;
    appData?: AppData;
  };
  newDataConsumer: { participantId: string; dataConsumerData: DataConsumerData };
  dataProducerClosed: { dataProducerId: string };
  dataConsumerClosed: { dataConsumerId: string };
  newParticipant: { participantId: string; displayName?: string };
  participantLeft: { participantId: string };
  producerClosed: { producerId: string };
  consumerClosed: { consumerId: string };
  consumerPaused: { consumerId: string };
  consumerResumed: { consumerId: string };
  /** Nobody takes a higher layer of this client's simulcast: the others need not be sent. */
  producerMaxSpatialLayer: { producerId: string; spatialLayer: number };
  /** This producer was muted, and cannot be resumed then, or unmuted: by a host, or else an administrator. */
  producerMuted: { producerId: string; muted: boolean; by?: string };
  /** This participant was removed: by a host, or else an administrator. The connection closes next. */
  removed: { reason: string; by?: string };
  /** This client has to wait until a host lets it in. What it asks meanwhile is answered then. */
  waiting: object;
  /** It is let in. */
  admitted: { by?: string };
  /** It is not let in; the connection closes next. */
  denied: { reason: string; by?: string };
  /** What this client had best send has changed. */
  codecAdvice: CodecAdvice;
  /** The room was locked or unlocked. */
  roomLocked: { locked: boolean; waitingRoom: boolean; by?: string };
  /** The room will be recorded so soon, or is recorded no more, for this reason. */
  recordingChanged: { recording: boolean; startsInMs?: number; reason?: string };
  /** Voices will go to a program outside so soon, or go there no more, for this reason. */
  tapChanged: { tapped: boolean; startsInMs?: number; reason?: string };
  /** Someone will be broadcast so soon, or is no more, for this reason. */
  pushChanged: { pushed: boolean; startsInMs?: number; reason?: string };
  /** What someone said, as that program understood it; a later one of the same utterance replaces it. */
  caption: {
    participantId: string;
    utterance: number;
    text: string;
    interim: boolean;
    language?: string;
  };
  /** To hosts: someone waits to be let in, or has another name now. */
  participantWaiting: { participantId: string; displayName: string };
  /** To hosts: someone waits no more: let in, sent away or gone. */
  participantWaitingEnded: { participantId: string };
  activeSpeakers: string[];
  /** In large rooms: who is on these slots of the stage; of others nothing has changed. */
  stageChanged: { slots: StageSlot[] };
  connectionQuality: ConnectionQuality;
}

/** Who is on a slot of a large room's stage; voices and pictures are numbered apart. */
export interface StageSlot {
  slot: number;
  kind: types.MediaKind;
  /** The stage's producer, which stays the same whoever is on it. */
  producerId: string;
  /** `null`: nobody. */
  participantId: string | null;
  displayName?: string | null;
  source: SourceName | null;
  /** The participant's own producer. */
  sourceProducerId: string | null;
}

/** Someone in a large room, and what they send. */
export interface ListedParticipant {
  participantId: string;
  displayName?: string;
  producers: {
    producerId: string;
    kind: types.MediaKind;
    source: SourceName;
    paused: boolean;
    /** End to end: then it is offered to everyone. */
    encrypted?: boolean;
  }[];
}

const PREFIX = 'mediasoup:';

/** A frame from the server, understood. */
export type Incoming =
  | { type: 'response'; id: string; data: unknown }
  | { type: 'error'; id: string | undefined; error: string }
  | { type: 'event'; name: string; data: unknown };

/** Writes a request as one text frame. */
export function encodeRequest(name: keyof Requests, id: string, data: object): string {
  return JSON.stringify({ type: PREFIX + name, id, data });
}

/** Reads one text frame; `undefined` for what is not of this protocol. */
export function decodeFrame(text: string): Incoming | undefined {
  let frame: unknown;
  try {
    frame = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof frame !== 'object' || frame === null || Array.isArray(frame)) return undefined;
  const { type, id, data, error } = frame as Record<string, unknown>;
  if (type === 'response') {
    return typeof id === 'string' ? { type, id, data } : undefined;
  }
  if (type === 'error') {
    const message = typeof error === 'string' ? error : 'The server refused without a reason.';
    return { type, id: typeof id === 'string' ? id : undefined, error: message };
  }
  if (typeof type !== 'string' || !type.startsWith(PREFIX)) return undefined;
  return { type: 'event', name: type.slice(PREFIX.length), data };
}
