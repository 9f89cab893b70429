import { expect } from 'vitest';
import type { DialectName } from '../harness/dialects';
import type { AudioOptions, LinkOptions, Received, VideoOptions } from '../harness/harness';
import type { CallHarness } from './chromium';
import type { TestServer } from './server';
import { until } from './wait';

let rooms = 0;

/** A room that no other test uses. */
export function newRoom(): string {
  rooms += 1;
  return `room-${rooms}`;
}

/** Who sends what to whom. */
export interface Talk {
  room: string;
  sender: string;
  receiver: string;
  videoId: string;
  audioId: string;
}

/** Two peers in a new room; one sends sound and pictures, the other receives. */
export async function startTalk(
  call: CallHarness,
  server: TestServer,
  options: {
    dialect?: DialectName;
    video?: VideoOptions;
    audio?: AudioOptions;
    links?: { sender: LinkOptions; receiver: LinkOptions };
  } = {},
): Promise<Talk> {
  const dialect = options.dialect ?? 'opencall';
  const room = newRoom();
  const [sender, receiver] = [`${room}-ann`, `${room}-ben`];
  await call('open', sender, dialect, server.wsUrl, room, options.links?.sender ?? {});
  const videoId = await call('sendVideo', sender, options.video ?? {});
  const audioId = await call('sendAudio', sender, options.audio ?? {});
  await call('open', receiver, dialect, server.wsUrl, room, options.links?.receiver ?? {});
  return { room, sender, receiver, videoId, audioId };
}

/** Ends it, so that the next test has the machine for itself. */
export async function endTalk(call: CallHarness, talk: Talk): Promise<void> {
  await call('close', talk.sender);
  await call('close', talk.receiver);
}

/** Waits until this producer's frames are decoded, at least `frames` more than now. */
export async function pictures(
  call: CallHarness,
  receiver: string,
  producerId: string,
  frames = 15,
): Promise<Received> {
  const before = (await find(call, receiver, producerId))?.framesDecoded ?? 0;
  const seen = await until(
    'pictures',
    () => find(call, receiver, producerId),
    (track) => (track?.framesDecoded ?? 0) >= before + frames,
  );
  if (!seen) throw new Error('unreachable: the condition needs a track');
  return seen;
}

/** Waits until this producer is heard. */
export async function sound(
  call: CallHarness,
  receiver: string,
  producerId: string,
): Promise<Received> {
  const before = (await find(call, receiver, producerId))?.totalAudioEnergy ?? 0;
  const heard = await until(
    'sound',
    () => find(call, receiver, producerId),
    (track) => (track?.totalAudioEnergy ?? 0) > before,
  );
  if (!heard) throw new Error('unreachable: the condition needs a track');
  return heard;
}

/** What libwebrtc calls a freeze: a picture that stands for this much longer than one usually does. */
export const FREEZE_MS = 150;

/**
 * Watches a steady video from now on. The returned function fails the test if it stood still on its way: if more of the
 * video's own time lies between two pictures that were decoded than between any two that were encoded, or if what came
 * could not be decoded. How late a busy machine shows them is no matter.
 */
export async function watchForFreezes(
  call: CallHarness,
  { sender, receiver, videoId }: Talk,
): Promise<() => Promise<void>> {
  // What is decoded was encoded before: the time looked at begins earlier and ends later there.
  await call('encodedFrames', sender, videoId);
  const before = await pictures(call, receiver, videoId, 3);
  await call('decodedFrames', receiver, videoId);
  return async () => {
    const after = await pictures(call, receiver, videoId, 3);
    const decoded = await call('decodedFrames', receiver, videoId);
    const encoded = await call('encodedFrames', sender, videoId);
    const source = Math.min(...encoded.map(({ longestGapMs }) => longestGapMs));
    const received = `received ${JSON.stringify(before)}, then ${JSON.stringify(after)}`;
    const seen = `decoded ${JSON.stringify(decoded)}, encoded ${JSON.stringify(encoded)}, ${received}`;
    expect(decoded.longestGapMs, `a freeze: ${seen}`).toBeLessThan(source + FREEZE_MS);
    expect(decoded.longestGapMs, `pictures were followed: ${seen}`).toBeGreaterThan(0);
    expect(after.pliCount, 'asked for key frames').toBe(before.pliCount);
  };
}

/** What the receiver has of this producer. */
export async function find(
  call: CallHarness,
  receiver: string,
  producerId: string,
): Promise<Received | undefined> {
  return (await call('received', receiver)).find((track) => track.producerId === producerId);
}
