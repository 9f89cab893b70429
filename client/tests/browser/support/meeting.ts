import type { EncryptionSnapshot, EncryptionState, FrameCounts } from '../../../src/sdk/index';
import { until } from './wait';

declare global {
  interface Window {
    /** Of `watchFirstPicture`; milliseconds on the page's clock, 0 until then. */
    times: { joinedAt: number; seenAt: number };
  }
}

/** A tab with the meeting page in it, of any browser. */
export interface Tab {
  evaluate<T>(inPage: () => T | Promise<T>): Promise<T>;
}

/** Someone else, as a tab has them. */
export interface Seen {
  name: string;
  encryption: EncryptionState | undefined;
  framesDecoded: number;
  frameWidth: number;
  /** Of sound. */
  energy: number;
  /** Of sound and picture. */
  packetsReceived: number;
}

/** Where a tab stands. */
export interface Look {
  status: string;
  error: string | undefined;
  encryption: EncryptionSnapshot;
  others: Seen[];
  counts: FrameCounts | undefined;
  packetsSent: number;
  /** Without what was sent again, and without padding. */
  mediaBytesSent: number;
  framesEncoded: number;
}

/** What this tab shows, sends and receives. A page that has just been loaded has its meeting a moment later. */
export async function look(tab: Tab): Promise<Look> {
  await until(
    'a meeting',
    () => tab.evaluate(() => window.__meeting !== undefined),
    (isThere) => isThere,
  );
  return tab.evaluate(async () => {
    type Stream = Record<string, number> & { type: string; trackIdentifier: string };
    const meeting = window.__meeting;
    if (!meeting) throw new Error('no meeting');
    const { send, recv } = (await meeting.stats()) as { send: Stream[]; recv: Stream[] };
    const { status, error, encryption, participants } = meeting.snapshot;
    const sum = (streams: Stream[], key: string) =>
      streams.reduce((all, stream) => all + (stream[key] ?? 0), 0);
    const others = participants
      .filter(({ isLocal }) => !isLocal)
      .map(({ displayName, encryption, media }) => {
        const tracks = Object.values(media).map(({ track }) => track?.id);
        const streams = recv.filter(
          ({ type, trackIdentifier }) => type === 'inbound-rtp' && tracks.includes(trackIdentifier),
        );
        return {
          name: displayName,
          encryption,
          framesDecoded: sum(streams, 'framesDecoded'),
          frameWidth: sum(streams, 'frameWidth'),
          energy: sum(streams, 'totalAudioEnergy'),
          packetsReceived: sum(streams, 'packetsReceived'),
        };
      });
    const sent = send.filter(({ type }) => type === 'outbound-rtp');
    return {
      status,
      error: error?.code,
      encryption,
      others,
      // A worker that has ended tells nothing.
      counts: await meeting.encryptionStats().catch(() => undefined),
      packetsSent: sum(sent, 'packetsSent'),
      mediaBytesSent: sum(sent, 'bytesSent') - sum(sent, 'retransmittedBytesSent'),
      framesEncoded: sum(sent, 'framesEncoded'),
    };
  });
}

/** One of the others. */
export function seen({ others }: Look, name: string): Seen | undefined {
  return others.find((other) => other.name === name);
}

/** Waits until this tab is in its meeting. */
export const isJoined = (tab: Tab) =>
  until(
    'joined',
    () => tab.evaluate(() => window.__meeting?.snapshot.status),
    (status) => status === 'joined',
  );

/** Waits until this tab plays so many more frames of these people, all of it decrypted. */
export async function playsDecrypted(tab: Tab, names: string[], frames = 15): Promise<Look> {
  const before = await look(tab);
  return until(
    `${names.join()} seen and heard`,
    () => look(tab),
    (now) =>
      names.every((name) => {
        const [was, is] = [seen(before, name), seen(now, name)];
        return (
          is?.encryption === 'encrypted' &&
          is.framesDecoded >= (was?.framesDecoded ?? 0) + frames &&
          is.energy > (was?.energy ?? 0)
        );
      }),
  );
}

/** Runs in the page: notes when the meeting was begun and when the first other person could be seen. */
export function watchFirstPicture() {
  const times = { joinedAt: 0, seenAt: 0 };
  window.times = times;
  const timer = setInterval(() => {
    if (times.joinedAt === 0 && window.__meeting) times.joinedAt = performance.now();
    const videos = document.querySelectorAll<HTMLVideoElement>('[data-local="false"] video');
    if ([...videos].every((video) => video.readyState < 2)) return;
    times.seenAt = performance.now();
    clearInterval(timer);
  }, 5);
}
