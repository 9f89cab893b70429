import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Encryption } from '../../../src/e2ee/encryption';
import { newLinkKey, secretOfLinkKey } from '../../../src/e2ee/keys';
import type { ReceiveOptions, SendOptions } from '../../../src/e2ee/messages';
import { FakeTransform, FakeWorker } from '../fake-worker';
import { FRAMES } from './frames';

const CAMERA: SendOptions = { direction: 'send', source: 'camera', codec: 'vp8' };
const FRAME = FRAMES.vp8;

const started: Encryption[] = [];

beforeEach(() => vi.stubGlobal('RTCRtpScriptTransform', FakeTransform));

afterEach(() => {
  for (const encryption of started.splice(0)) encryption.close();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

const secret = (key: string) => secretOfLinkKey(key);

async function start(participantId: string, key: string | undefined, died = vi.fn()) {
  const worker = await FakeWorker.load();
  const encryption = await Encryption.start(
    {
      secret: key ? secret(key) : undefined,
      createWorker: () => worker as unknown as Worker,
      rotateEveryMs: 1000,
    },
    { meetingId: 'm', participantId },
    died,
  );
  started.push(encryption);
  return { worker, encryption, died };
}

/** Ben’s end of Ann’s camera. */
function receive(
  ben: Awaited<ReturnType<typeof start>>,
  ann: Awaited<ReturnType<typeof start>>,
  source = 'camera',
) {
  const states: string[] = [];
  const receiver = {} as RTCRtpReceiver;
  ben.encryption.protectReceiver(receiver, {
    participantId: 'ann',
    source,
    salt: ann.encryption.salt,
    codec: 'vp8',
    onState: (state) => states.push(state),
  });
  const { options } = receiver.transform as unknown as FakeTransform;
  return { states, track: ben.worker.track(options as ReceiveOptions) };
}

test('what Ann sends is sealed, and Ben plays it', async () => {
  const key = newLinkKey();
  const [ann, ben] = [await start('ann', key), await start('ben', key)];
  const camera = ann.worker.track(CAMERA);
  const { track, states } = receive(ben, ann);
  for (let round = 0; round < 3; round += 1) {
    const sealed = await camera.pass(FRAME);
    expect(sealed?.length).toBeGreaterThan(FRAME.length);
    expect(await track.pass(sealed as Uint8Array)).toEqual(FRAME);
  }
  expect(states).toEqual(['encrypted']);
  expect(await ann.encryption.counts()).toMatchObject({ sealed: 3, notSealed: 0 });
  expect(await ben.encryption.counts()).toMatchObject({ opened: 3 });
});

test('without a secret no frame goes on, in either direction; with one, all do', async () => {
  const key = newLinkKey();
  const [ann, ben] = [await start('ann', undefined), await start('ben', undefined)];
  const camera = ann.worker.track(CAMERA);
  const { track, states } = receive(ben, ann);
  expect(await camera.pass(FRAME)).toBeUndefined();
  await ann.encryption.setSecret(secret(key));
  const sealed = (await camera.pass(FRAME)) as Uint8Array;
  expect(await track.pass(sealed)).toBeUndefined();
  await ben.encryption.setSecret(secret(key));
  expect(await track.pass(sealed)).toEqual(FRAME);
  expect(states).toEqual(['waiting-for-key', 'encrypted']);
  expect((await ann.encryption.counts()).notSealed).toBe(1);
});

test('with a wrong key nothing is played, and it is told', async () => {
  const [ann, ben] = [await start('ann', newLinkKey()), await start('ben', newLinkKey())];
  const camera = ann.worker.track(CAMERA);
  const { track, states } = receive(ben, ann);
  for (let round = 0; round < 8; round += 1) {
    expect(await track.pass((await camera.pass(FRAME)) as Uint8Array)).toBeUndefined();
  }
  // Frames in the clear are no better.
  expect(await track.pass(FRAME)).toBeUndefined();
  expect(states).toEqual(['wrong-key']);
});

test('a frame of another codec than was negotiated does not leave', async () => {
  const ann = await start('ann', newLinkKey());
  const camera = ann.worker.track(CAMERA);
  expect(await camera.pass(FRAME, 'video/AV1')).toBeUndefined();
  expect(await camera.pass(FRAME, 'video/H265')).toBeUndefined();
  expect(await camera.pass(FRAME, 'video/VP8')).toBeDefined();
  // A frame that is none of its codec does not end the track.
  const h264 = ann.worker.track({ ...CAMERA, codec: 'h264' });
  expect(await h264.pass(FRAMES.opus)).toBeUndefined();
  expect(await h264.pass(FRAMES.h264)).toBeDefined();
});

test('an empty frame, which is silence, is not sent', async () => {
  const ann = await start('ann', newLinkKey());
  const microphone = ann.worker.track({ ...CAMERA, source: 'microphone', codec: 'opus' });
  expect(await microphone.pass(new Uint8Array())).toBeUndefined();
  expect(await microphone.pass(FRAMES.opus)).toBeDefined();
  expect(await ann.encryption.counts()).toMatchObject({ sealed: 1, notSealed: 0 });
});

test('keys rotate by the clock, and soon after someone came or went, however many', async () => {
  vi.useFakeTimers();
  const ann = await start('ann', newLinkKey());
  const epoch = async () => (await ann.encryption.counts()).epoch;
  const before = await epoch();
  for (let newcomer = 0; newcomer < 50; newcomer += 1) ann.encryption.rotate();
  await vi.advanceTimersByTimeAsync(1000);
  // One for them, and one of the clock.
  expect(await epoch()).toBe(before + 2);
  await vi.advanceTimersByTimeAsync(5000);
  expect(await epoch()).toBe(before + 7);
});

test('a worker that does not answer any more is told of, once', async () => {
  vi.useFakeTimers();
  const { worker, died } = await start('ann', newLinkKey());
  await vi.advanceTimersByTimeAsync(60_000);
  expect(died).not.toHaveBeenCalled();
  worker.isDeaf = true;
  await vi.advanceTimersByTimeAsync(15_000);
  expect(died).toHaveBeenCalledTimes(1);
  expect(worker.isTerminated).toBe(true);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(died).toHaveBeenCalledTimes(1);
});

test('a page that slept does not take its worker for dead', async () => {
  vi.useFakeTimers();
  const { died } = await start('ann', newLinkKey());
  // All timers at once, and the answers after them.
  vi.advanceTimersByTime(9_000);
  await vi.advanceTimersByTimeAsync(0);
  await vi.advanceTimersByTimeAsync(30_000);
  expect(died).not.toHaveBeenCalled();
});

test('a worker that cannot be loaded, or fails later, is told of', async () => {
  const worker = await FakeWorker.load();
  worker.isDeaf = true;
  const options = { createWorker: () => worker as unknown as Worker };
  const identity = { meetingId: 'm', participantId: 'ann' };
  const starting = Encryption.start(options, identity, vi.fn());
  worker.onerror?.({ message: 'blocked' } as ErrorEvent);
  await expect(starting).rejects.toThrow('blocked');
  expect(worker.isTerminated).toBe(true);

  const { worker: other, died, encryption } = await start('ann', newLinkKey());
  other.isDeaf = true;
  const asked = encryption.counts();
  other.onerror?.({ message: 'out of memory' } as ErrorEvent);
  expect(died).toHaveBeenCalledWith('out of memory');
  await expect(asked).rejects.toThrow('ended');
  await expect(encryption.counts()).rejects.toThrow('ended');
});
