import { useCallback, useEffect, useMemo, useRef, useState } from 'react';
import type { Meeting, MeetingSnapshot } from '../sdk/index';
import { Announcer, OwnAnnouncer } from './Announcer';
import { mainSpeaker } from './arrangement';
import { Captions } from './Captions';
import { ChatPanel } from './ChatPanel';
import { Controls } from './Controls';
import { DevicesDialog } from './DevicesDialog';
import { canShareScreen, deviceActions } from './devices';
import { FloatingMeeting, useFloatingWindow } from './FloatingWindow';
import { HostPanel } from './HostPanel';
import { HostedMeetingContext } from './hosted';
import { Notices } from './Notices';
import { useNetwork } from './network';
import { PeoplePanel } from './PeoplePanel';
import { Sheet } from './Sheet';
import { ShortcutsDialog } from './ShortcutsDialog';
import { Stage } from './Stage';
import { StateCard } from './StateCard';
import { useShortcuts } from './shortcuts';
import { TopBar } from './TopBar';
import { useFileDrop } from './useFileDrop';
import { useMeetingSnapshot } from './useMeeting';
import { useRest } from './useRest';
import { effectiveMode } from './useStage';
import { useWakeLock } from './useWakeLock';
import { playAll, Voices } from './Voices';
import { useView } from './view';
import { usePreferences, useWords } from './words/index';

export interface MeetingViewProps {
  meeting: Meeting;
  /** Shown in the bar at the top. */
  title: string;
  /** Copied by the invite button; without it there is none. */
  inviteLink?: string;
  onLeave: () => void;
}

/** The whole meeting: people, screens, and the buttons. */
export function MeetingView({ meeting, title, inviteLink, onLeave }: MeetingViewProps) {
  const words = useWords();
  const { theme } = usePreferences();
  const snapshot = useMeetingSnapshot(meeting);
  const [view, actions] = useView();
  const [isSoundBlocked, setSoundBlocked] = useState(false);
  const soundBlocked = useCallback(() => setSoundBlocked(true), []);
  const devices = useMemo(() => deviceActions(meeting), [meeting]);
  const network = useNetwork(meeting, snapshot);
  const root = useRef<HTMLElement>(null);
  const playSound = () => {
    setSoundBlocked(false);
    playAll(root.current, soundBlocked);
  };
  const isAtRest = useRest(root);
  const floating = useFloatingWindow();
  const { participants, status } = snapshot;
  const mode = effectiveMode(view, participants);
  const isIn = status === 'joined';
  // Whoever is not in has nothing to control, and can leave from where it says why.
  const isOutside = status === 'failed' || status === 'waiting' || status === 'left';
  useWakeLock(isIn);
  usePage(root, view.page, actions.setPage);
  const setLayout = () => {
    const wanted = mode === 'grid' ? 'speaker' : 'grid';
    // What comes by itself goes on coming by itself: a screen that is shared later is shown.
    const byItself = effectiveMode({ mode: 'auto', pinned: undefined }, participants);
    actions.setMode(wanted === byItself ? 'auto' : wanted);
  };
  const isHandRaised = participants.some(
    ({ isLocal, handRaisedAt }) => isLocal && handRaisedAt !== undefined,
  );
  const raiseHand = () => {
    meeting.raiseHand(!isHandRaised).catch((error) => console.info('opencall: no hand', error));
  };
  const unread = useUnread(snapshot, view.sheet === 'chat');
  const isDropping = useFileDrop(root, (files) => {
    if (view.sheet !== 'chat') actions.toggleSheet('chat');
    for (const file of files) {
      meeting.sendFile(file).catch((error) => console.info('opencall: not offered', error));
    }
  });
  useShortcuts(root, {
    microphone: devices.toggleMicrophone,
    camera: devices.toggleCamera,
    screen: () => {
      if (canShareScreen()) devices.toggleScreen();
    },
    hand: raiseHand,
    chat: () => actions.toggleSheet('chat'),
    people: () => actions.toggleSheet('people'),
    layout: setLayout,
    captions: actions.toggleCaptions,
    help: () => actions.setDialog('shortcuts'),
    page: (step) => actions.setPage(nextPage(root.current, step)),
    escape: actions.closeSheet,
    talk: devices.talk,
  });
  return (
    <main
      ref={root}
      className="oc-root oc-meeting"
      data-status={status}
      data-theme={theme}
      data-rest={isAtRest && isIn && mode === 'speaker'}
      data-sheet={view.sheet}
    >
      <TopBar
        snapshot={snapshot}
        title={title}
        inviteLink={inviteLink}
        onPeople={() => actions.toggleSheet('people')}
      />
      <HostedMeetingContext.Provider value={snapshot.isHost ? meeting : undefined}>
        <div className="oc-body">
          <div className="oc-center">
            <Stage
              meeting={meeting}
              snapshot={snapshot}
              view={view}
              actions={actions}
              network={network}
            />
            <Alone snapshot={snapshot} hasInvite={inviteLink !== undefined} />
            <StateCard meeting={meeting} snapshot={snapshot} onLeave={onLeave} />
            <Notices meeting={meeting} snapshot={snapshot} />
            {view.hasCaptions && isIn && <Captions snapshot={snapshot} />}
            {isSoundBlocked && (
              <button
                type="button"
                className="oc-button oc-button--main oc-unblock"
                onClick={playSound}
              >
                {words.states.unblock}
              </button>
            )}
            {!isOutside && (
              <Controls
                meeting={meeting}
                snapshot={snapshot}
                view={view}
                mode={mode}
                actions={actions}
                devices={devices}
                isHandRaised={isHandRaised}
                unread={unread}
                onHand={raiseHand}
                onLayout={setLayout}
                onFloat={floating.open}
                onLeave={onLeave}
              />
            )}
          </div>
          {view.sheet === 'people' && (
            <Sheet title={words.people.title} onClose={actions.closeSheet}>
              <HostPanel meeting={meeting} snapshot={snapshot} />
              <PeoplePanel
                participants={participants}
                view={view}
                actions={actions}
                network={network}
              />
            </Sheet>
          )}
          {view.sheet === 'chat' && (
            <Sheet title={words.chat.title} onClose={actions.closeSheet}>
              <ChatPanel
                meeting={meeting}
                chat={snapshot.chat}
                files={snapshot.files}
                nameOf={(id) => participants.find((one) => one.id === id)?.displayName}
              />
            </Sheet>
          )}
        </div>
      </HostedMeetingContext.Provider>
      <Voices
        participants={participants}
        volumes={view.volumes}
        speakerId={view.speakerId}
        onBlocked={soundBlocked}
      />
      {isDropping && (
        <div className="oc-drop">
          <p>{words.files.drop}</p>
        </div>
      )}
      <Announcer participants={participants} isIn={isIn} />
      <OwnAnnouncer snapshot={snapshot} isChatOpen={view.sheet === 'chat'} />
      {floating.window && (
        <FloatingMeeting
          target={floating.window}
          snapshot={snapshot}
          speakerId={mainSpeaker(undefined, snapshot)}
          devices={devices}
          onLeave={onLeave}
        />
      )}
      {view.dialog === 'shortcuts' && (
        <ShortcutsDialog onClose={() => actions.setDialog(undefined)} />
      )}
      {view.dialog === 'devices' && (
        <DevicesDialog
          meeting={meeting}
          snapshot={snapshot}
          view={view}
          actions={actions}
          onClose={() => actions.setDialog(undefined)}
        />
      )}
    </main>
  );
}

/** How many messages and files of others came since the chat was seen last. */
function useUnread(
  { chat, files }: Pick<MeetingSnapshot, 'chat' | 'files'>,
  isOpen: boolean,
): number {
  const seen = useRef(new Set<string>());
  const others = [...chat, ...files].filter(({ mine }) => !mine);
  if (isOpen) seen.current = new Set(others.map(({ id }) => id));
  return others.filter(({ id }) => !seen.current.has(id)).length;
}

/** What whoever is alone may want to know. */
function Alone({ snapshot, hasInvite }: { snapshot: MeetingSnapshot; hasInvite: boolean }) {
  const words = useWords().states;
  if (snapshot.status !== 'joined' || snapshot.participants.length !== 1) return null;
  return (
    <p className="oc-alone">
      {words.alone}
      {hasInvite && <> {words.aloneInvite}</>}
    </p>
  );
}

/** The page a key leads to, within those that the stage has. */
function nextPage(root: HTMLElement | null, step: number): number {
  const { page = '0', pages = '1' } = root?.querySelector<HTMLElement>('.oc-stage')?.dataset ?? {};
  return Math.min(Number(pages) - 1, Math.max(0, Number(page) + step));
}

/** When people leave, the page one is on may be no more. */
function usePage(
  root: React.RefObject<HTMLElement | null>,
  page: number,
  setPage: (page: number) => void,
): void {
  useEffect(() => {
    const shown = nextPage(root.current, 0);
    if (shown !== page) setPage(shown);
  });
}
