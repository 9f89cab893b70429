import { useEffect, useRef, useState } from 'react';
import type { ConnectionQuality, Meeting, MeetingSnapshot } from '../sdk/index';

/** Full bars of three: 0 nothing comes, 1 bad, 2 fair, 3 good. */
export type Bars = 0 | 1 | 2 | 3;

/** Between two looks at the statistics. */
const PERIOD_MS = 3_000;

/** Lost packets and frozen time, as shares, up to which a connection is good, and fair. */
const GOOD = { loss: 0.02, frozen: 0.02 };
const FAIR = { loss: 0.08, frozen: 0.15 };

/** What the browser counts of a track that is received. */
export interface Counts {
  packetsReceived: number;
  packetsLost: number;
  freezeMs: number;
}

const OWN: Record<ConnectionQuality, Bars> = { excellent: 3, good: 3, poor: 1, disconnected: 0 };

/** How well someone's sound and pictures came between two looks; nothing if nothing was to come. */
export function barsOf(before: Counts | undefined, now: Counts): Bars | undefined {
  if (!before) return undefined;
  const received = now.packetsReceived - before.packetsReceived;
  const lost = Math.max(0, now.packetsLost - before.packetsLost);
  if (received <= 0) return lost > 0 ? 0 : undefined;
  const loss = lost / (received + lost);
  const frozen = Math.max(0, now.freezeMs - before.freezeMs) / PERIOD_MS;
  if (loss <= GOOD.loss && frozen <= GOOD.frozen) return 3;
  return loss <= FAIR.loss && frozen <= FAIR.frozen ? 2 : 1;
}

/** Everyone's bars, by participant; one's own are the server's judgement. Absent: nothing is known. */
export function useNetwork(meeting: Meeting, snapshot: MeetingSnapshot): ReadonlyMap<string, Bars> {
  const [bars, setBars] = useState<ReadonlyMap<string, Bars>>(new Map());
  const latest = useRef(snapshot);
  latest.current = snapshot;
  const isJoined = snapshot.status === 'joined';
  useEffect(() => {
    if (!isJoined) return;
    const before = new Map<string, Counts>();
    const timer = setInterval(async () => {
      if (document.hidden) return;
      const { recv } = await meeting.stats().catch(() => ({ recv: [] }));
      const found = readBars(recv as Inbound[], latest.current, before);
      setBars((known) => (isSame(known, found) ? known : found));
    }, PERIOD_MS);
    return () => clearInterval(timer);
  }, [meeting, isJoined]);
  return bars;
}

/** Of the browser's statistics, what is read. */
interface Inbound {
  type?: string;
  trackIdentifier?: string;
  packetsReceived?: number;
  packetsLost?: number;
  totalFreezesDuration?: number;
}

function readBars(
  recv: readonly Inbound[],
  { participants, quality, isUnstable }: MeetingSnapshot,
  before: Map<string, Counts>,
): ReadonlyMap<string, Bars> {
  const streams = new Map(
    recv
      .filter(({ type }) => type === 'inbound-rtp')
      .map((stream) => [stream.trackIdentifier, stream]),
  );
  const bars = new Map<string, Bars>();
  for (const { id, isLocal, media } of participants) {
    if (isLocal) {
      bars.set(id, isUnstable ? 0 : OWN[quality]);
      continue;
    }
    const now: Counts = { packetsReceived: 0, packetsLost: 0, freezeMs: 0 };
    for (const { track } of Object.values(media)) {
      const stream = track ? streams.get(track.id) : undefined;
      now.packetsReceived += stream?.packetsReceived ?? 0;
      now.packetsLost += stream?.packetsLost ?? 0;
      now.freezeMs += (stream?.totalFreezesDuration ?? 0) * 1000;
    }
    const found = barsOf(before.get(id), now);
    before.set(id, now);
    if (found !== undefined) bars.set(id, found);
  }
  return bars;
}

function isSame(one: ReadonlyMap<string, Bars>, other: ReadonlyMap<string, Bars>): boolean {
  return one.size === other.size && [...one].every(([id, bars]) => other.get(id) === bars);
}
