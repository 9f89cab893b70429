import { useContext, useMemo } from 'react';
import { type EncryptionOptions, newLinkKey, secretOfLinkKey } from '../sdk/index';
import { MeetingView } from './MeetingView';
import { useMeetingStyles } from './styles';
import { MediasoupContext, pageUrl, useDevices } from './useMediasoup';
import { useMeeting } from './useMeeting';

export interface MediasoupMeetingProps {
  meetingId: string;
  participantId: string;
  displayName: string;
  /**
   * Encrypts end to end. The key is behind the `#` of the page's address (`#k=…`); where there is none a new one is put
   * there, and whoever opens that address has it.
   */
  enableEncryption?: boolean;
  onLeave?: () => void;
}

/** A whole meeting on this page's server: joins when it is mounted, leaves when it goes. */
export function MediasoupMeeting(props: MediasoupMeetingProps) {
  // Another key is another meeting, whose secret cannot be exchanged for none.
  const key = JSON.stringify([
    props.meetingId,
    props.participantId,
    props.enableEncryption === true,
  ]);
  return <Meeting key={key} {...props} />;
}

function Meeting(props: MediasoupMeetingProps) {
  const { meetingId, participantId, displayName, enableEncryption = false, onLeave } = props;
  const { url, ...connection } = useContext(MediasoupContext);
  const encryption = useMemo(
    () => (enableEncryption ? keyOfPage() : undefined),
    [enableEncryption],
  );
  const { meeting } = useMeeting({
    url: url ?? pageUrl(),
    meetingId,
    participantId,
    displayName,
    ...(encryption ? { encryption } : {}),
    ...connection,
  });
  useDevices(meeting, true, true);
  useMeetingStyles();
  const leave = () => {
    meeting.leave();
    onLeave?.();
  };
  return <MeetingView meeting={meeting} title={meetingId} onLeave={leave} />;
}

/** The key behind the `#`, or a new one that is put there. */
function keyOfPage(): EncryptionOptions {
  if (typeof location === 'undefined') return {};
  const fragment = new URLSearchParams(location.hash.replace(/^#/, ''));
  const secret = secretOfLinkKey(fragment.get('k') ?? '');
  if (secret) return { secret };
  const key = newLinkKey();
  fragment.set('k', key);
  history.replaceState(history.state, '', `${location.pathname}${location.search}#${fragment}`);
  return { secret: secretOfLinkKey(key) };
}
