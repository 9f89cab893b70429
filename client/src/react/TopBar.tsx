import { useState } from 'react';
import type { MeetingSnapshot } from '../sdk/index';
import { copyText } from './copyText';
import { CaptionsIcon, LinkIcon, LockIcon, PeopleIcon, RecordIcon } from './icons';
import { Popover } from './Popover';
import { useWords } from './words/index';

/** What meeting this is, how one is connected, whether it is encrypted, and how others come in. */
export function TopBar({
  snapshot,
  title,
  inviteLink,
  onPeople,
}: {
  snapshot: MeetingSnapshot;
  title: string;
  inviteLink: string | undefined;
  onPeople: () => void;
}) {
  const { top: words, hosts } = useWords();
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
        {snapshot.isRecorded && (
          <span className="oc-chip oc-chip--recorded" role="status">
            <RecordIcon />
            <span>{words.recorded}</span>
          </span>
        )}
        {snapshot.isBroadcast && (
          <span className="oc-chip oc-chip--recorded" role="status" title={words.broadcastHelp}>
            <RecordIcon />
            <span>{words.broadcast}</span>
          </span>
        )}
        {snapshot.isTapped && (
          <span
            className="oc-chip oc-chip--recorded oc-chip--tapped"
            role="status"
            title={words.tappedHelp}
          >
            <CaptionsIcon />
            <span>{words.tapped}</span>
          </span>
        )}
        {snapshot.locked && (
          <span className="oc-chip oc-chip--locked">
            <LockIcon />
            <span>{hosts.locked}</span>
          </span>
        )}
        <Encryption snapshot={snapshot} />
        <button
          type="button"
          className="oc-chip oc-chip--button"
          aria-label={words.here(count)}
          data-tip={words.here(count)}
          onClick={onPeople}
        >
          <PeopleIcon />
          {count}
        </button>
        {inviteLink && (
          <button
            type="button"
            className="oc-chip oc-chip--button oc-chip--invite"
            aria-label={isCopied ? words.copied : words.invite}
            onClick={() => void copy()}
          >
            <LinkIcon />
            <span>{isCopied ? words.copied : words.invite}</span>
          </button>
        )}
      </div>
    </header>
  );
}

function ConnectionState({ snapshot }: { snapshot: MeetingSnapshot }) {
  const words = useWords().top;
  const { status, quality, isUnstable } = snapshot;
  const isPoor = status === 'joined' && (quality === 'poor' || quality === 'disconnected');
  return (
    <span
      className="oc-status"
      role="status"
      data-status={status}
      data-quality={isUnstable ? 'poor' : quality}
      data-unstable={isUnstable}
    >
      <i className="oc-dot" />
      <b>
        {isUnstable && status === 'joined'
          ? words.unanswered
          : isPoor
            ? words.weak
            : words.status[status]}
      </b>
    </span>
  );
}

/** Whether the meeting is encrypted, and the code to compare. */
function Encryption({ snapshot: { encryption, participants } }: { snapshot: MeetingSnapshot }) {
  const words = useWords().encryption;
  if (encryption.state === 'off') return null;
  const isOn = encryption.state === 'on';
  const name = isOn ? words.on : words.noKey;
  // Whoever has keys is named, also who is in no list of people.
  const nameOf = (id: string) => participants.find((one) => one.id === id)?.displayName ?? id;
  return (
    <div className="oc-encryption" data-encryption={encryption.state}>
      <Popover
        label={name}
        className="oc-chip oc-chip--button"
        icon={
          <>
            <LockIcon open={!isOn} />
            <span>{name}</span>
          </>
        }
      >
        {() => (
          <section className="oc-code" aria-label={words.panel}>
            <p>{words.promise}</p>
            {encryption.code && (
              <>
                <p>{words.compare}</p>
                <output>{encryption.code}</output>
                {encryption.members && <p>{words.members(encryption.members.map(nameOf))}</p>}
              </>
            )}
          </section>
        )}
      </Popover>
    </div>
  );
}
