import {
  createContext,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useState,
} from 'react';
import {
  type ConnectionQuality,
  type Layers,
  type MeetingOptions,
  type MeetingSnapshot,
  type Participant,
  sameOriginUrl,
} from '../sdk/index';
import { useMeeting } from './useMeeting';

/** How the meetings below in the tree reach their server; what is left out is this page's server. */
export type MediasoupConnection = Pick<
  Partial<MeetingOptions>,
  'url' | 'token' | 'openChannel' | 'makeDevice'
>;

/** The way to the server. Without a provider it is the page's own. */
export const MediasoupContext = createContext<MediasoupConnection>({});

/** What to take part in, and with what. */
export interface UseMediasoupOptions {
  meetingId: string;
  participantId: string;
  /** What the others see; the id if left out. */
  displayName?: string;
  /** Starts the microphone (yes). */
  enableAudio?: boolean;
  /** Starts the camera (yes). */
  enableVideo?: boolean;
  /** Takes and sends messages (yes). */
  enableDataChannel?: boolean;
}

/** How good a picture is wanted. */
export type ConsumerQuality = 'high' | 'medium' | 'low';

/** A meeting for components that draw it themselves. */
export interface UseMediasoupResult {
  /** It was joined at least once. */
  isInitialized: boolean;
  isConnected: boolean;
  localStream: MediaStream | null;
  /** By participant. A stream stays the same object while its participant is there. */
  remoteStreams: ReadonlyMap<string, MediaStream>;
  /** Loudest first. */
  activeSpeakers: readonly string[];
  connectionQuality: ConnectionQuality;
  /** The last thing that went wrong, in words for the user. */
  error: Error | null;
  toggleAudio: () => Promise<void>;
  toggleVideo: () => Promise<void>;
  /** Begins to share a screen, or ends it; the track that is shared then. */
  shareScreen: () => Promise<MediaStreamTrack | null>;
  /** To everyone else, whose windows have an event `mediasoup:dataMessage` with `{participantId, message}`. */
  sendData: (data: unknown) => Promise<void>;
  /** Of a participant, or of a consumer or producer of theirs. */
  setConsumerQuality: (id: string, quality: ConsumerQuality) => Promise<void>;
  getLocalStream: () => MediaStream | null;
  getRemoteStream: (participantId: string) => MediaStream | undefined;
  getParticipants: () => readonly Participant[];
  getStats: () => Promise<{ send: object[]; recv: object[] }>;
  cleanup: () => void;
}

const LAYERS: Record<ConsumerQuality, Layers> = {
  high: { spatialLayer: 2, temporalLayer: 2 },
  medium: { spatialLayer: 1, temporalLayer: 2 },
  low: { spatialLayer: 0, temporalLayer: 2 },
};

/** Takes part in a meeting while the component is mounted. */
export function useMediasoup(options: UseMediasoupOptions): UseMediasoupResult {
  const { meetingId, participantId, displayName = participantId } = options;
  const { enableAudio = true, enableVideo = true, enableDataChannel = true } = options;
  const { url, ...connection } = useContext(MediasoupContext);
  const { meeting, snapshot } = useMeeting({
    url: url ?? pageUrl(),
    meetingId,
    participantId,
    displayName,
    ...connection,
  });
  const { status, participants } = snapshot;
  useDevices(meeting, enableAudio, enableVideo);
  useMessages(meeting, enableDataChannel);
  const owners = useConsumerOwners(meeting);
  const hasJoined = useHasJoined(meeting, status);
  const { localStream, remoteStreams } = useStreams(participants);
  const actions = useMemo(
    () => ({
      toggleAudio: async () => {
        if (meeting.snapshot.devices.microphone === 'on') await meeting.mute();
        else await meeting.unmute();
      },
      toggleVideo: async () => {
        if (meeting.snapshot.devices.camera === 'on') await meeting.disable('camera');
        else await meeting.enable('camera');
      },
      shareScreen: async () => {
        if (meeting.snapshot.devices.screen === 'on') {
          await meeting.disable('screen');
          return null;
        }
        await meeting.enable('screen');
        const own = meeting.snapshot.participants.find(({ isLocal }) => isLocal);
        return own?.media.screen?.track ?? null;
      },
      sendData: (data: unknown) => meeting.send(data),
      setConsumerQuality: (id: string, quality: ConsumerQuality) => {
        const owner = owners.current.get(id) ?? id;
        return meeting.setPreferredLayers(owner, 'camera', LAYERS[quality]);
      },
      getParticipants: () => meeting.snapshot.participants,
      getStats: () => meeting.stats(),
      cleanup: () => meeting.leave(),
    }),
    [meeting, owners],
  );
  return {
    isInitialized: hasJoined,
    isConnected: status === 'joined',
    localStream,
    remoteStreams,
    activeSpeakers: snapshot.speakers,
    connectionQuality: snapshot.quality,
    error: snapshot.error,
    ...actions,
    getLocalStream: useCallback(() => localStream, [localStream]),
    getRemoteStream: useCallback((id: string) => remoteStreams.get(id), [remoteStreams]),
  };
}

/** This page's server; nothing where there is no page, as when it is rendered on a server. */
export function pageUrl(): string {
  return typeof location === 'undefined' ? '' : sameOriginUrl(location);
}

type Meeting = ReturnType<typeof useMeeting>['meeting'];

/** What was wanted of devices before, and in which meeting. */
interface Wanted {
  meeting?: Meeting;
  audio: boolean;
  video: boolean;
}

const NOTHING: Wanted = { audio: false, video: false };

/**
 * Starts what is wanted when the meeting has begun, and what is wanted from then on; what went wrong is in the snapshot. What
 * has been started is its user's: it is neither opened nor ended by this.
 */
export function useDevices(meeting: Meeting, audio: boolean, video: boolean): void {
  const wanted = useRef(NOTHING);
  useEffect(() => {
    let isGone = false;
    const ignore = () => undefined;
    queueMicrotask(() => {
      if (isGone) return;
      const before = wanted.current.meeting === meeting ? wanted.current : NOTHING;
      wanted.current = { meeting, audio, video };
      const { camera, microphone } = meeting.snapshot.devices;
      const startsAudio = audio && !before.audio && microphone === 'off';
      const startsVideo = video && !before.video && camera === 'off';
      if (startsAudio && startsVideo) meeting.enableBoth().catch(ignore);
      else if (startsAudio) meeting.enable('microphone').catch(ignore);
      else if (startsVideo) meeting.enable('camera').catch(ignore);
    });
    return () => {
      isGone = true;
    };
  }, [meeting, audio, video]);
  useEffect(() => {
    return () => {
      wanted.current = NOTHING;
    };
  }, []);
}

function useMessages(meeting: Meeting, isWanted: boolean): void {
  useEffect(() => {
    if (!isWanted) return;
    return meeting.on('message', (detail) => {
      window.dispatchEvent(new CustomEvent('mediasoup:dataMessage', { detail }));
    });
  }, [meeting, isWanted]);
}

/** Whose a consumer or producer is. */
function useConsumerOwners(meeting: Meeting) {
  const owners = useRef(new Map<string, string>());
  useEffect(() => {
    owners.current.clear();
    return meeting.on('trackAdded', ({ consumerId, producerId, participantId }) => {
      owners.current.set(consumerId, participantId).set(producerId, participantId);
    });
  }, [meeting]);
  return owners;
}

function useHasJoined(meeting: Meeting, status: MeetingSnapshot['status']): boolean {
  const [joined, setJoined] = useState<Meeting | null>(null);
  useEffect(() => {
    if (status === 'joined') setJoined(meeting);
  }, [meeting, status]);
  return joined === meeting;
}

/** One stream for each participant, which gains and loses tracks. */
function useStreams(participants: readonly Participant[]) {
  const known = useRef(new Map<string, MediaStream>());
  const [streams, setStreams] = useState<{
    localStream: MediaStream | null;
    remoteStreams: ReadonlyMap<string, MediaStream>;
  }>({ localStream: null, remoteStreams: new Map() });
  useEffect(() => {
    let localStream: MediaStream | null = null;
    const remoteStreams = new Map<string, MediaStream>();
    for (const { id, isLocal, media } of participants) {
      const tracks = [media.camera, media.microphone, isLocal ? undefined : media.screenAudio]
        .flatMap((one) => one?.track ?? [])
        .filter((track) => track.readyState === 'live');
      if (tracks.length === 0) continue;
      const stream = known.current.get(id) ?? new MediaStream();
      known.current.set(id, stream);
      for (const track of stream.getTracks())
        if (!tracks.includes(track)) stream.removeTrack(track);
      for (const track of tracks) stream.addTrack(track);
      if (isLocal) localStream = stream;
      else remoteStreams.set(id, stream);
    }
    for (const id of known.current.keys()) {
      if (!participants.some((one) => one.id === id)) known.current.delete(id);
    }
    setStreams((before) => {
      const isSame =
        before.localStream === localStream &&
        before.remoteStreams.size === remoteStreams.size &&
        [...remoteStreams].every(([id, stream]) => before.remoteStreams.get(id) === stream);
      return isSame ? before : { localStream, remoteStreams };
    });
  }, [participants]);
  return streams;
}
