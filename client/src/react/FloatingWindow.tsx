import { type ReactNode, useCallback, useEffect, useRef, useState } from 'react';
import { createPortal } from 'react-dom';
import type { MeetingSnapshot } from '../sdk/index';
import type { DeviceActions } from './devices';
import { isPlayable } from './encryption';
import { CameraIcon, LeaveIcon, MicrophoneIcon } from './icons';
import { hueOf, initialsOf } from './layout';
import { Video } from './Tile';
import { usePreferences, useWords } from './words/index';

/** What browsers with windows of this kind have. */
interface DocumentPictureInPicture {
  requestWindow(options: { width: number; height: number }): Promise<Window>;
}

const SIZE = { width: 360, height: 240 };

/** A small window that stays on top. `open` is missing where the browser has none. */
export function useFloatingWindow(): {
  window: Window | undefined;
  open: (() => void) | undefined;
} {
  const [floating, setFloating] = useState<Window>();
  const isGone = useRef(false);
  const open = useCallback(() => {
    pictureInPicture()
      ?.requestWindow(SIZE)
      .then(
        (opened) => {
          // The meeting was left meanwhile.
          if (isGone.current) return opened.close();
          copyStyles(opened.document);
          opened.addEventListener('pagehide', () => setFloating(undefined));
          setFloating(opened);
        },
        (error) => console.info('opencall: no floating window', error),
      );
  }, []);
  useEffect(() => () => floating?.close(), [floating]);
  useEffect(() => {
    isGone.current = false;
    return () => {
      isGone.current = true;
    };
  }, []);
  return { window: floating, open: pictureInPicture() ? open : undefined };
}

function pictureInPicture(): DocumentPictureInPicture | undefined {
  return (globalThis as { documentPictureInPicture?: DocumentPictureInPicture })
    .documentPictureInPicture;
}

/** Who speaks, and three buttons, in a window of their own. */
export function FloatingMeeting({
  target,
  snapshot,
  speakerId,
  devices,
  onLeave,
}: {
  target: Window;
  snapshot: MeetingSnapshot;
  speakerId: string | undefined;
  devices: DeviceActions;
  onLeave: () => void;
}) {
  const words = useWords();
  const { theme } = usePreferences();
  const speaker = snapshot.participants.find(({ id }) => id === speakerId);
  const { camera, microphone } = snapshot.devices;
  const picture = speaker?.media.camera;
  const hasPicture = picture?.track && !picture.paused && isPlayable(speaker?.encryption);
  useEffect(() => {
    target.document.title = words.pip.title;
  }, [target, words]);
  const content = (
    <main className="oc-root oc-floating" data-theme={theme}>
      {hasPicture ? (
        <Video track={picture.track} isMirrored={false} />
      ) : (
        <div
          className="oc-avatar"
          style={{ '--oc-hue': hueOf(speaker?.id ?? '') } as React.CSSProperties}
          aria-hidden="true"
        >
          {initialsOf(speaker?.displayName ?? '·')}
        </div>
      )}
      <p className="oc-name">
        <span>{speaker?.displayName ?? words.pip.nobody}</span>
      </p>
      <nav className="oc-controls" aria-label={words.controls.bar}>
        <FloatingButton
          name="microphone"
          isOff={microphone !== 'on'}
          label={microphone === 'on' ? words.controls.mute : words.controls.unmute}
          onClick={devices.toggleMicrophone}
        >
          <MicrophoneIcon off={microphone !== 'on'} />
        </FloatingButton>
        <FloatingButton
          name="camera"
          isOff={camera !== 'on'}
          label={camera === 'on' ? words.controls.stopVideo : words.controls.startVideo}
          onClick={devices.toggleCamera}
        >
          <CameraIcon off={camera !== 'on'} />
        </FloatingButton>
        <button
          type="button"
          className="oc-control oc-control--leave"
          data-control="leave"
          aria-label={words.controls.leave}
          onClick={onLeave}
        >
          <LeaveIcon />
        </button>
      </nav>
    </main>
  );
  return createPortal(content, target.document.body);
}

function FloatingButton({
  name,
  isOff,
  label,
  onClick,
  children,
}: {
  name: 'microphone' | 'camera';
  isOff: boolean;
  label: string;
  onClick: () => void;
  children: ReactNode;
}) {
  return (
    <button
      type="button"
      className="oc-control"
      data-control={name}
      data-device={isOff ? 'off' : 'on'}
      aria-label={label}
      onClick={onClick}
    >
      {children}
    </button>
  );
}

/** The other document has no styles of its own; constructed sheets cannot be shared between documents. */
function copyStyles(target: Document): void {
  const rules = [...document.styleSheets, ...document.adoptedStyleSheets].flatMap((sheet) => {
    try {
      return [...sheet.cssRules].map(({ cssText }) => cssText);
    } catch {
      // Of another origin.
      return [];
    }
  });
  const style = target.createElement('style');
  style.textContent = rules.join('\n');
  target.head.append(style);
  target.documentElement.lang = document.documentElement.lang;
}
