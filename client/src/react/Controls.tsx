import type { ReactNode } from 'react';
import type { DeviceStatus, LocalSource, Meeting, MeetingSnapshot } from '../sdk/index';
import { canShareScreen, type DeviceActions } from './devices';
import {
  CameraIcon,
  CaptionsIcon,
  ChatIcon,
  GridIcon,
  HandIcon,
  LeaveIcon,
  MicrophoneIcon,
  PeopleIcon,
  ScreenIcon,
  SpeakerViewIcon,
} from './icons';
import { MoreMenu } from './MoreMenu';
import { ReactionButton } from './Reactions';
import { KEYS } from './shortcuts';
import type { View, ViewActions } from './view';
import { useWords } from './words/index';

/** The buttons, in one pill. */
export function Controls({
  meeting,
  snapshot,
  view,
  mode,
  actions,
  devices,
  isHandRaised,
  unread,
  onHand,
  onLayout,
  onFloat,
  onLeave,
}: {
  meeting: Meeting;
  snapshot: MeetingSnapshot;
  view: View;
  mode: 'grid' | 'speaker';
  actions: ViewActions;
  devices: DeviceActions;
  isHandRaised: boolean;
  /** Messages that came while the chat was closed. */
  unread: number;
  onHand: () => void;
  onLayout: () => void;
  /** Opens the floating window, where the browser has one. */
  onFloat: (() => void) | undefined;
  onLeave: () => void;
}) {
  const words = useWords().controls;
  const { camera, microphone, screen } = snapshot.devices;
  const layoutLabel = mode === 'grid' ? words.speaker : words.grid;
  const captionsLabel = view.hasCaptions ? words.captionsOff : words.captionsOn;
  const handLabel = isHandRaised ? words.lowerHand : words.raiseHand;
  return (
    <nav className="oc-controls" aria-label={words.bar}>
      <DeviceButton
        name="microphone"
        status={microphone}
        label={microphone === 'on' ? words.mute : words.unmute}
        shortcut={KEYS.microphone}
        onClick={devices.toggleMicrophone}
      >
        <MicrophoneIcon off={microphone !== 'on'} />
      </DeviceButton>
      <DeviceButton
        name="camera"
        status={camera}
        label={camera === 'on' ? words.stopVideo : words.startVideo}
        shortcut={KEYS.camera}
        onClick={devices.toggleCamera}
      >
        <CameraIcon off={camera !== 'on'} />
      </DeviceButton>
      {canShareScreen() && (
        <DeviceButton
          name="screen"
          status={screen}
          label={screen === 'on' ? words.stopSharing : words.share}
          shortcut={KEYS.screen}
          onClick={devices.toggleScreen}
        >
          <ScreenIcon />
        </DeviceButton>
      )}
      <button
        type="button"
        className="oc-control"
        data-control="hand"
        aria-label={handLabel}
        aria-pressed={isHandRaised}
        aria-keyshortcuts={KEYS.hand}
        data-tip={`${handLabel} (${KEYS.hand})`}
        onClick={onHand}
      >
        <HandIcon />
      </button>
      <ReactionButton meeting={meeting} />
      {snapshot.isTapped && (
        <button
          type="button"
          className="oc-control oc-control--wide"
          data-control="captions"
          aria-label={captionsLabel}
          aria-pressed={view.hasCaptions}
          aria-keyshortcuts={KEYS.captions}
          data-tip={`${captionsLabel} (${KEYS.captions})`}
          onClick={actions.toggleCaptions}
        >
          <CaptionsIcon off={!view.hasCaptions} />
        </button>
      )}
      <button
        type="button"
        className="oc-control oc-control--wide"
        data-control="layout"
        aria-label={layoutLabel}
        data-tip={`${layoutLabel} (${KEYS.layout})`}
        onClick={onLayout}
      >
        {mode === 'grid' ? <SpeakerViewIcon /> : <GridIcon />}
      </button>
      <button
        type="button"
        className="oc-control"
        data-control="chat"
        aria-label={unread > 0 ? words.unread(unread) : words.chat}
        aria-expanded={view.sheet === 'chat'}
        aria-keyshortcuts={KEYS.chat}
        data-tip={`${words.chat} (${KEYS.chat})`}
        onClick={() => actions.toggleSheet('chat')}
      >
        <ChatIcon />
        {unread > 0 && <i className="oc-badge">{unread > 99 ? '99' : unread}</i>}
      </button>
      <button
        type="button"
        className="oc-control oc-control--wide"
        data-control="people"
        aria-label={words.people}
        aria-expanded={view.sheet === 'people'}
        data-tip={`${words.people} (${KEYS.people})`}
        onClick={() => actions.toggleSheet('people')}
      >
        <PeopleIcon />
      </button>
      <MoreMenu
        meeting={meeting}
        actions={actions}
        layoutLabel={layoutLabel}
        onLayout={onLayout}
        captionsLabel={snapshot.isTapped ? captionsLabel : undefined}
        onFloat={onFloat}
      />
      <button
        type="button"
        className="oc-control oc-control--leave"
        data-control="leave"
        aria-label={words.leave}
        data-tip={words.leave}
        onClick={onLeave}
      >
        <LeaveIcon />
      </button>
    </nav>
  );
}

function DeviceButton({
  name,
  status,
  label,
  shortcut,
  onClick,
  children,
}: {
  name: LocalSource;
  status: DeviceStatus;
  label: string;
  shortcut: string;
  onClick: () => void;
  children: ReactNode;
}) {
  return (
    <button
      type="button"
      className="oc-control"
      data-control={name}
      data-device={status}
      aria-label={label}
      aria-busy={status === 'starting'}
      aria-keyshortcuts={shortcut}
      data-tip={`${label} (${shortcut})`}
      // A button that is disabled loses the focus of whoever has pressed it.
      aria-disabled={status === 'starting'}
      onClick={status === 'starting' ? undefined : onClick}
    >
      {children}
    </button>
  );
}
