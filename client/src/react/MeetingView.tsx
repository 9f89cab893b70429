import { type RefObject, useCallback, useEffect, useMemo, useRef, useState } from 'react';
import {
  type DeviceStatus,
  type LocalSource,
  type Meeting,
  type MeetingSnapshot,
  type MeetingStatus,
  type Participant,
  spatialLayerFor,
} from '../sdk/index';
import { copyText } from './copyText';
import { explainEncryption } from './encryption';
import {
  CameraIcon,
  CloseIcon,
  LeaveIcon,
  LinkIcon,
  LockIcon,
  MicrophoneIcon,
  PeopleIcon,
  ScreenIcon,
} from './icons';
import { layoutTiles, pickVisible, rememberSpeakers } from './layout';
import { Tile, Voice } from './Tile';
import { useMeetingSnapshot } from './useMeeting';

export interface MeetingViewProps {
  meeting: Meeting;
  /** Shown in the bar at the top. */
  title: string;
  /** Copied by the invite button; without it there is none. */
  inviteLink?: string;
  onLeave: () => void;
}

const GAP_PX = 12;

/** More faces than this are too small to be known, and more videos too many to receive. */
const MAX_TILES = 20;

/** The whole meeting: people, screens, and the buttons. */
export function MeetingView({ meeting, title, inviteLink, onLeave }: MeetingViewProps) {
  const snapshot = useMeetingSnapshot(meeting);
  const [isSoundBlocked, setSoundBlocked] = useState(false);
  const soundBlocked = useCallback(() => setSoundBlocked(true), []);
  return (
    <main className="oc-meeting" data-status={snapshot.status}>
      <TopBar snapshot={snapshot} title={title} inviteLink={inviteLink} />
      <Notices meeting={meeting} snapshot={snapshot} />
      <Stage meeting={meeting} snapshot={snapshot} />
      <Controls meeting={meeting} snapshot={snapshot} onLeave={onLeave} />
      <Voices participants={snapshot.participants} onBlocked={soundBlocked} />
      {isSoundBlocked && (
        <button
          type="button"
          className="oc-unblock"
          onClick={() => playAll(() => setSoundBlocked(false))}
        >
          Click to hear the others
        </button>
      )}
    </main>
  );
}

function TopBar({
  snapshot,
  title,
  inviteLink,
}: {
  snapshot: MeetingSnapshot;
  title: string;
  inviteLink: string | undefined;
}) {
  const [isCopied, setCopied] = useState(false);
  const count = snapshot.participants.length;
  const copy = async () => {
    if (!(await copyText(inviteLink ?? ''))) return;
    setCopied(true);
    setTimeout(() => setCopied(false), 2000);
  };
  return (
    <header className="oc-top">
      <h1 className="oc-title">{title}</h1>
      <ConnectionState snapshot={snapshot} />
      <div className="oc-top-end">
        <Encryption snapshot={snapshot} />
        <span className="oc-chip" title={`${count} in this meeting`}>
          <PeopleIcon />
          {count}
        </span>
        {inviteLink && (
          <button type="button" className="oc-chip oc-chip--button" onClick={() => void copy()}>
            <LinkIcon />
            {isCopied ? 'Copied' : 'Copy invite'}
          </button>
        )}
      </div>
    </header>
  );
}

const STATUS_TEXT: Record<MeetingStatus, string> = {
  idle: 'Not joined',
  joining: 'Joining…',
  joined: 'Connected',
  reconnecting: 'Reconnecting…',
  failed: 'Not connected',
  left: 'You left',
};

function ConnectionState({ snapshot }: { snapshot: MeetingSnapshot }) {
  const { status, quality, isUnstable } = snapshot;
  const isPoor = status === 'joined' && (quality === 'poor' || quality === 'disconnected');
  const words = isPoor ? 'Weak connection' : STATUS_TEXT[status];
  return (
    <span
      className="oc-status"
      role="status"
      data-status={status}
      data-quality={isUnstable ? 'poor' : quality}
      data-unstable={isUnstable}
    >
      <i className="oc-dot" />
      {isUnstable && status === 'joined' ? 'The server does not answer…' : words}
    </span>
  );
}

/** Whether the meeting is encrypted, and the code to compare. */
function Encryption({ snapshot: { encryption } }: { snapshot: MeetingSnapshot }) {
  const [isShown, setShown] = useState(false);
  if (encryption.state === 'off') return null;
  const isOn = encryption.state === 'on';
  return (
    <div className="oc-encryption" data-encryption={encryption.state}>
      <button
        type="button"
        className="oc-chip oc-chip--button"
        aria-expanded={isShown}
        onClick={() => setShown(!isShown)}
      >
        <LockIcon open={!isOn} />
        {isOn ? 'Encrypted' : 'No key'}
      </button>
      {isShown && (
        <section className="oc-code" aria-label="Encryption">
          <p>
            What you send is encrypted on your device. The server passes it on and cannot see or
            hear it.
          </p>
          {encryption.code && (
            <>
              <p>Read this code to each other. If all have the same, all have the same key:</p>
              <output>{encryption.code}</output>
            </>
          )}
        </section>
      )}
    </div>
  );
}

function Notices({ meeting, snapshot }: { meeting: Meeting; snapshot: MeetingSnapshot }) {
  const { error, status } = snapshot;
  const encryption = status === 'joined' ? explainEncryption(snapshot) : undefined;
  if (!error && !encryption && status !== 'reconnecting') return null;
  return (
    <div className="oc-notices">
      {status === 'reconnecting' && (
        <div className="oc-notice" role="status">
          <i className="oc-spinner" />
          <p>The connection was lost. Reconnecting…</p>
        </div>
      )}
      {encryption && (
        <div className="oc-notice oc-notice--encryption" role="status">
          <LockIcon open />
          <p>{encryption}</p>
        </div>
      )}
      {error && (
        <div className="oc-notice oc-notice--error" role="alert" data-error={error.code}>
          <p>{error.message}</p>
          {status === 'failed' && (
            <button type="button" onClick={() => void meeting.join().catch(() => undefined)}>
              Try again
            </button>
          )}
          <button
            type="button"
            className="oc-bare"
            aria-label="Dismiss"
            onClick={() => meeting.dismissError()}
          >
            <CloseIcon />
          </button>
        </div>
      )}
    </div>
  );
}

function Stage({ meeting, snapshot }: { meeting: Meeting; snapshot: MeetingSnapshot }) {
  const { participants, status } = snapshot;
  const visible = useVisible(meeting, snapshot);
  const stage = useRef<HTMLElement>(null);
  const size = useSize(stage);
  const screens = participants.filter((participant) => participant.media.screen);
  const hasScreen = screens.length > 0;
  const isWide = size.width > size.height;
  // With a shared screen, people move into a strip beside it (below it on narrow displays).
  const strip = isWide ? Math.min(260, size.width * 0.24) : Math.min(150, size.height * 0.22);
  const grid = hasScreen
    ? {
        tileWidth: isWide ? strip : (strip * 16) / 9,
        tileHeight: isWide ? (strip * 9) / 16 : strip,
      }
    : layoutTiles(visible.length, size.width, size.height, GAP_PX);
  useLayers(meeting, visible, grid.tileHeight);
  const { tileWidth: width, tileHeight: height } = grid;
  // The same object while the size is the same: a tile is drawn anew only when something on it changes.
  const tile = useMemo(() => ({ width, height }), [width, height]);
  const hidden = participants.length - visible.length;
  const people = visible.map((participant) => (
    <Tile key={participant.id} participant={participant} source="camera" style={tile} />
  ));
  return (
    <section
      ref={stage}
      className="oc-stage"
      data-layout={hasScreen ? (isWide ? 'beside' : 'below') : 'grid'}
    >
      {hasScreen && (
        <div className="oc-screens">
          {screens.map((participant) => (
            <Tile key={participant.id} participant={participant} source="screen" />
          ))}
        </div>
      )}
      <div className="oc-people" style={{ gap: GAP_PX }}>
        {people}
      </div>
      {hidden > 0 && <p className="oc-alone">and {hidden} more; whoever speaks is shown</p>}
      {status === 'joined' && participants.length === 1 && !hasScreen && (
        <p className="oc-alone">You are the first one here. Others appear as they join.</p>
      )}
    </section>
  );
}

function Controls({
  meeting,
  snapshot: { devices },
  onLeave,
}: {
  meeting: Meeting;
  snapshot: MeetingSnapshot;
  onLeave: () => void;
}) {
  const toggle = (source: LocalSource, action: 'enable' | 'disable' | 'mute') => () => {
    const done = action === 'mute' ? meeting.mute() : meeting[action](source);
    // What went wrong is in the snapshot.
    done.catch(() => undefined);
  };
  const { camera, microphone, screen } = devices;
  return (
    <nav className="oc-controls" aria-label="Meeting controls">
      <Control
        name="microphone"
        status={microphone}
        label={microphone === 'on' ? 'Mute' : 'Unmute'}
        onClick={toggle('microphone', microphone === 'on' ? 'mute' : 'enable')}
      >
        <MicrophoneIcon off={microphone !== 'on'} />
      </Control>
      <Control
        name="camera"
        status={camera}
        label={camera === 'on' ? 'Stop video' : 'Start video'}
        onClick={toggle('camera', camera === 'on' ? 'disable' : 'enable')}
      >
        <CameraIcon off={camera !== 'on'} />
      </Control>
      <Control
        name="screen"
        status={screen}
        label={screen === 'on' ? 'Stop sharing' : 'Share screen'}
        onClick={toggle('screen', screen === 'on' ? 'disable' : 'enable')}
      >
        <ScreenIcon />
      </Control>
      <button
        type="button"
        className="oc-control oc-control--leave"
        data-control="leave"
        onClick={onLeave}
      >
        <LeaveIcon />
        <span>Leave</span>
      </button>
    </nav>
  );
}

function Control({
  name,
  status,
  label,
  onClick,
  children,
}: {
  name: LocalSource;
  status: DeviceStatus;
  label: string;
  onClick: () => void;
  children: React.ReactNode;
}) {
  return (
    <button
      type="button"
      className="oc-control"
      data-control={name}
      data-device={status}
      aria-pressed={status === 'on'}
      disabled={status === 'starting'}
      onClick={onClick}
    >
      {children}
      <span>{label}</span>
    </button>
  );
}

function Voices({
  participants,
  onBlocked,
}: {
  participants: readonly Participant[];
  onBlocked: () => void;
}) {
  const tracks = participants
    .filter((participant) => !participant.isLocal)
    .flatMap(({ media }) => [media.microphone, media.screenAudio]);
  return tracks.map(
    (media) =>
      media?.track && <Voice key={media.producerId} track={media.track} onBlocked={onBlocked} />,
  );
}

/** Chooses who is shown; the pictures of the others are not sent. */
function useVisible(
  meeting: Meeting,
  { participants, speakers }: MeetingSnapshot,
): readonly Participant[] {
  const recent = useRef<readonly string[]>([]);
  recent.current = rememberSpeakers(recent.current, speakers, MAX_TILES - 1);
  const visible = pickVisible(participants, recent.current, MAX_TILES);
  const shown = new Set(visible.map(({ id }) => id));
  // As text, so that the effect runs only when it says something else.
  const wanted = JSON.stringify(
    participants
      .filter(({ isLocal, media }) => !isLocal && media.camera)
      .map(({ id }) => [id, shown.has(id)]),
  );
  useEffect(() => {
    for (const [id, isShown] of JSON.parse(wanted) as [string, boolean][]) {
      meeting
        .setReceiving(id, 'camera', isShown)
        .catch((error) => console.info('opencall: a picture stays as it is', error));
    }
  }, [meeting, wanted]);
  return visible;
}

/** Asks for no more pixels than are shown. */
function useLayers(
  meeting: Meeting,
  participants: readonly Participant[],
  tileHeight: number,
): void {
  const spatialLayer = spatialLayerFor(tileHeight * (globalThis.devicePixelRatio || 1));
  const videos = JSON.stringify(
    participants.filter(({ isLocal, media }) => !isLocal && media.camera).map(({ id }) => id),
  );
  useEffect(() => {
    if (tileHeight === 0) return;
    for (const id of JSON.parse(videos) as string[]) {
      meeting
        .setPreferredLayers(id, 'camera', { spatialLayer, temporalLayer: 2 })
        .catch((error) => console.info('opencall: layers stay as they are', error));
    }
  }, [meeting, videos, spatialLayer, tileHeight]);
}

function useSize(element: RefObject<HTMLElement | null>): { width: number; height: number } {
  const [size, setSize] = useState({ width: 0, height: 0 });
  useEffect(() => {
    if (!element.current) return;
    const observer = new ResizeObserver(([entry]) => {
      if (entry) setSize({ width: entry.contentRect.width, height: entry.contentRect.height });
    });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, [element]);
  return size;
}

function playAll(done: () => void): void {
  const voices = [...document.querySelectorAll('audio')].map((audio) => audio.play());
  Promise.all(voices).then(done, () => undefined);
}
