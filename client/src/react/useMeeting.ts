import { useEffect, useMemo, useSyncExternalStore } from 'react';
import { Meeting, type MeetingOptions, type MeetingSnapshot } from '../sdk/index';

/** A meeting and what there is to show of it. */
export interface MeetingHandle {
  meeting: Meeting;
  snapshot: MeetingSnapshot;
}

/**
 * Joins a meeting while the component is mounted and leaves with it. A change of server, meeting or participant is
 * another meeting, and a change of name is a rename; other options are read once.
 */
export function useMeeting(options: MeetingOptions): MeetingHandle {
  const { url, meetingId, participantId, displayName } = options;
  // biome-ignore lint/correctness/useExhaustiveDependencies: other options are read once, on purpose
  const meeting = useMemo(() => new Meeting(options), [url, meetingId, participantId]);
  useEffect(() => {
    let isGone = false;
    // React mounts twice in development: what goes at once does not connect.
    queueMicrotask(() => {
      // A failure is part of the snapshot.
      if (!isGone) meeting.join().catch(() => undefined);
    });
    return () => {
      isGone = true;
      meeting.leave();
    };
  }, [meeting]);
  useEffect(() => {
    meeting
      .setDisplayName(displayName)
      .catch((error) => console.info('opencall: the name stays as it is', error));
  }, [meeting, displayName]);
  return { meeting, snapshot: useMeetingSnapshot(meeting) };
}

/** Follows a meeting that someone else made. */
export function useMeetingSnapshot(meeting: Meeting): MeetingSnapshot {
  return useSyncExternalStore(
    (changed) => meeting.on('change', changed),
    () => meeting.snapshot,
    () => meeting.snapshot,
  );
}
