import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { toBase64Url } from '../../src/e2ee/bytes';
import { newLinkKey, secretOfLinkKey } from '../../src/e2ee/keys';
import type { ReceiveOptions, ToWorker, TransformOptions } from '../../src/e2ee/messages';
import { Meeting, type MeetingOptions } from '../../src/sdk/meeting';
import { FRAMES } from './e2ee/frames';
import { FakeChannel, fakeDevices, handlers, makeDevice, transports } from './fake-server';
import { FakeTransform, FakeWorker } from './fake-worker';

const KEY = newLinkKey();
const SALT = new Uint8Array(16).fill(7);
const E2EE = { version: 1, suite: 4, salt: toBase64Url(SALT) };

let channels: FakeChannel[];
let workers: FakeWorker[];
const meetings: Meeting[] = [];

beforeEach(async () => {
  channels = [];
  handlers.length = 0;
  transports.length = 0;
  // Loaded before the clock stops; one for each life.
  workers = [await FakeWorker.load(), await FakeWorker.load()];
  vi.useFakeTimers();
  vi.stubGlobal('RTCRtpScriptTransform', FakeTransform);
  vi.stubGlobal('navigator', { mediaDevices: fakeDevices().mediaDevices });
  vi.spyOn(console, 'info').mockImplementation(() => undefined);
});

afterEach(() => {
  for (const meeting of meetings.splice(0)) meeting.leave();
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

function makeMeeting(options: Partial<MeetingOptions> = {}): Meeting {
  let made = 0;
  const meeting = new Meeting({
    url: 'ws://unused',
    meetingId: 'm',
    participantId: 'me',
    displayName: 'Me',
    makeDevice,
    openChannel: async () => {
      const channel = new FakeChannel();
      channels.push(channel);
      return channel;
    },
    encryption: {
      secret: secretOfLinkKey(KEY),
      createWorker: () => {
        made += 1;
        return workers[made - 1] as unknown as Worker;
      },
    },
    ...options,
  });
  meetings.push(meeting);
  return meeting;
}

async function joined(options: Partial<MeetingOptions> = {}) {
  const meeting = makeMeeting(options);
  await done(meeting.join());
  return { meeting, channel: last() };
}

function last(): FakeChannel {
  const channel = channels.at(-1);
  if (!channel) throw new Error('nobody connected');
  return channel;
}

/** Lets happen what needs no time. */
async function settle(): Promise<void> {
  for (let round = 0; round < 20; round += 1) await turn();
}

/** One turn of timers that are due, and of other threads: keys are derived there, which no clock of ours holds. */
async function turn(): Promise<void> {
  await vi.advanceTimersByTimeAsync(0);
  await new Promise((resolve) => tick(resolve));
}
const tick = setImmediate;

/** Waits for something that needs no time of this clock. */
async function done<T>(promise: Promise<T>): Promise<T> {
  let isDone = false;
  const end = () => {
    isDone = true;
  };
  promise.then(end, end);
  while (!isDone) await turn();
  return promise;
}

/** Waits until it holds; the test's own ceiling ends it. */
async function until(isSo: () => unknown): Promise<void> {
  while (!isSo()) await turn();
}

const offer = (participantId: string, producerId: string, appData: object) => ({
  participantId,
  producerId,
  kind: producerId.startsWith('audio') ? ('audio' as const) : ('video' as const),
  appData: { source: producerId.startsWith('audio') ? 'microphone' : 'camera', ...appData },
});

const optionsOf = (index: number) =>
  (transports[index]?.transform as FakeTransform | undefined)?.options as TransformOptions;

const produced = (channel: FakeChannel) =>
  channel.asked.filter(({ name }) => name === 'produce').map(({ data }) => data.appData);

const count = (worker: FakeWorker | undefined, type: ToWorker['type']) =>
  worker?.received.filter((message) => message.type === type).length;

const other = (meeting: Meeting, id: string) =>
  meeting.snapshot.participants.find((participant) => participant.id === id);

test('every track is sealed before it is negotiated, and announced with the salt of the session', async () => {
  const { meeting, channel } = await joined();
  for (const source of ['microphone', 'camera', 'screen'] as const) {
    await done(meeting.enable(source));
  }
  expect([0, 1, 2].map(optionsOf)).toEqual([
    { direction: 'send', source: 'microphone', codec: 'opus' },
    { direction: 'send', source: 'camera', codec: 'vp8' },
    { direction: 'send', source: 'screen', codec: 'vp8' },
  ]);
  const [first, ...others] = produced(channel) as { e2ee: typeof E2EE }[];
  expect(first?.e2ee).toEqual({ version: 1, suite: 4, salt: expect.stringMatching(/^.{22}$/) });
  for (const { e2ee } of others) expect(e2ee).toEqual(first?.e2ee);
  await until(() => meeting.snapshot.encryption.code);
  expect(meeting.snapshot.encryption).toEqual({
    state: 'on',
    code: expect.stringMatching(/^\d{5}( \d{5}){5}$/),
  });
  expect(other(meeting, 'me')?.encryption).toBe('encrypted');
});

test('a track in a codec that cannot be sealed is not sent', async () => {
  const device = await makeDevice();
  const { meeting, channel } = await joined({ makeDevice: async () => device });
  const [audio, video] = ['audio', 'video'].map((kind) =>
    device.sendRtpCapabilities.codecs?.find((codec) => codec.kind === kind),
  );
  const codecs = [audio, { ...video, mimeType: 'video/H265' }];
  vi.spyOn(device, 'sendRtpCapabilities', 'get').mockReturnValue({ codecs } as never);
  await expect(done(meeting.enable('camera'))).rejects.toMatchObject({
    code: 'encryption-unsupported',
  });
  expect(channel.names()).not.toContain('produce');
  expect(transports).toHaveLength(0);
  expect(meeting.snapshot.devices.camera).toBe('off');
});

test('a browser that shows no sender has what it sent taken back', async () => {
  const { meeting, channel } = await joined();
  const handler = handlers[0];
  if (!handler) throw new Error('no transport');
  const send = handler.send.bind(handler);
  handler.send = ({ onRtpSender: _, ...options }) => send(options as never);
  await expect(done(meeting.enable('camera'))).rejects.toMatchObject({
    code: 'encryption-unsupported',
  });
  expect(channel.names().at(-1)).toBe('closeProducer');
  expect(meeting.snapshot.devices.camera).toBe('off');
});

test('a browser without transforms does not even enter', async () => {
  vi.stubGlobal('RTCRtpScriptTransform', undefined);
  const meeting = makeMeeting();
  await expect(meeting.join()).rejects.toMatchObject({ code: 'encryption-unsupported' });
  expect(channels).toHaveLength(0);
});

test('what is received is opened, and its state shown and told', async () => {
  const { meeting, channel } = await joined();
  const told: unknown[] = [];
  meeting.on('encryptionChanged', (change) => told.push(change));
  channel.say('newProducer', offer('ann', 'video-1', { e2ee: E2EE }));
  channel.say('newProducer', offer('ann', 'audio-1', { e2ee: E2EE }));
  await settle();
  const expected = { direction: 'receive', participantId: 'ann', salt: SALT };
  expect([0, 1].map(optionsOf)).toMatchObject([
    { ...expected, source: 'camera', codec: 'vp8' },
    { ...expected, source: 'microphone', codec: 'opus' },
  ]);
  expect(other(meeting, 'ann')).toMatchObject({ encryption: 'pending', media: { camera: {} } });
  const camera = workers[0]?.track(optionsOf(0) as ReceiveOptions);
  for (let round = 0; round < 5; round += 1) await camera?.pass(FRAMES.vp8);
  await until(() => other(meeting, 'ann')?.encryption !== 'pending');
  expect(other(meeting, 'ann')?.encryption).toBe('wrong-key');
  // As good as the worst of their tracks; a track that ends is no longer one.
  channel.say('producerClosed', { producerId: 'video-1' });
  expect(other(meeting, 'ann')?.encryption).toBe('pending');
  expect(told).toEqual([
    { participantId: 'ann', state: 'pending' },
    { participantId: 'ann', state: 'wrong-key' },
    { participantId: 'ann', state: 'pending' },
  ]);
});

test.each([
  ['in the clear', {}, 'not-encrypted'],
  ['in a way that is not known', { e2ee: { ...E2EE, version: 2 } }, 'wrong-key'],
  ['in a suite that is not known', { e2ee: { ...E2EE, suite: 9 } }, 'wrong-key'],
  ['with a salt that is none', { e2ee: { ...E2EE, salt: 'AAAA' } }, 'wrong-key'],
  ['with nonsense', { e2ee: true }, 'wrong-key'],
])('what comes %s is not even asked for', async (_, appData, state) => {
  const { meeting, channel } = await joined();
  channel.say('newProducer', offer('ann', 'video-1', appData));
  await settle();
  expect(channel.names()).not.toContain('consume');
  expect(other(meeting, 'ann')).toMatchObject({ encryption: state, media: {} });
});

test('nothing of a stage is received, and who is on it is known to send in the clear', async () => {
  const { meeting, channel } = await joined();
  channel.say('newParticipant', { participantId: 'ann', displayName: 'Ann' });
  channel.say('newProducer', offer('stage:1', 'video-stage', { stage: true, slot: 0 }));
  const slot = { slot: 0, kind: 'video' as const, producerId: 'video-stage' };
  const ann = { participantId: 'ann', source: 'camera' as const, sourceProducerId: 'video-1' };
  channel.say('stageChanged', { slots: [{ ...slot, ...ann }] });
  channel.say('newProducer', offer('ben', 'video-2', { e2ee: E2EE }));
  await settle();
  const consumed = channel.asked.filter(({ name }) => name === 'consume');
  expect(consumed.map(({ data }) => data.producerId)).toEqual(['video-2']);
  expect(other(meeting, 'stage:1')).toBeUndefined();
  expect(other(meeting, 'ann')).toMatchObject({ encryption: 'not-encrypted', media: {} });
  expect(other(meeting, 'ben')).toMatchObject({ encryption: 'pending', media: { camera: {} } });
});

test('without encryption here, what is encrypted is not asked for, and all else is as ever', async () => {
  const meeting = makeMeeting();
  const { meeting: plain, channel } = await joined({ encryption: undefined as never });
  expect(meeting.snapshot.encryption.state).toBe('on');
  expect(plain.snapshot.encryption).toEqual({ state: 'off', code: null });
  channel.say('newProducer', offer('ann', 'video-1', { e2ee: E2EE }));
  channel.say('newProducer', offer('ben', 'video-2', {}));
  await settle();
  expect(other(plain, 'ann')).toMatchObject({ encryption: 'waiting-for-key', media: {} });
  expect(other(plain, 'ben')).toMatchObject({ media: { camera: {} } });
  expect(other(plain, 'ben')).not.toHaveProperty('encryption');
  expect(transports.every(({ transform }) => transform === undefined)).toBe(true);
  await expect(plain.setEncryptionSecret(secretOfLinkKey(KEY))).rejects.toMatchObject({
    code: 'encryption-unsupported',
  });
});

test('a received codec that is not known is not played', async () => {
  vi.spyOn(console, 'warn').mockImplementation(() => undefined);
  const { meeting, channel } = await joined();
  channel.consumedMimeType = 'video/H265';
  channel.say('newProducer', offer('ann', 'video-1', { e2ee: E2EE }));
  await settle();
  expect(other(meeting, 'ann')?.media).toEqual({});
  expect(channel.names()).not.toContain('resumeConsumer');
});

test('keys rotate when someone comes, and when someone leaves', async () => {
  const { channel } = await joined();
  channel.say('newParticipant', { participantId: 'ann' });
  channel.say('newParticipant', { participantId: 'ben' });
  await vi.advanceTimersByTimeAsync(1000);
  expect(count(workers[0], 'rotate')).toBe(1);
  // News of someone who is known is no arrival.
  channel.say('newProducer', offer('ann', 'video-1', { e2ee: E2EE }));
  await vi.advanceTimersByTimeAsync(1000);
  expect(count(workers[0], 'rotate')).toBe(1);
  channel.say('participantLeft', { participantId: 'ann' });
  await vi.advanceTimersByTimeAsync(1000);
  expect(count(workers[0], 'rotate')).toBe(2);
});

test('the code changes with who sends', async () => {
  const { meeting, channel } = await joined();
  /** The code after something happened that changes it. */
  const codeAfter = async (action: () => unknown) => {
    const before = meeting.snapshot.encryption.code;
    action();
    await until(() => meeting.snapshot.encryption.code !== before);
    return meeting.snapshot.encryption.code;
  };
  const annSends = (producerId: string) =>
    channel.say('newProducer', offer('ann', producerId, { e2ee: E2EE }));
  const alone = await codeAfter(() => annSends('video-1'));
  const both = await codeAfter(() => meeting.enable('camera'));
  // Another track of the same session changes nothing.
  annSends('audio-1');
  await settle();
  expect(meeting.snapshot.encryption.code).toBe(both);
  expect(await codeAfter(() => meeting.disable('camera'))).toBe(alone);
  const nobody = await codeAfter(() => channel.say('participantLeft', { participantId: 'ann' }));
  expect(new Set([alone, both, nobody]).size).toBe(3);
});

test('after a lost connection the same worker goes on, with the same salt', async () => {
  const { meeting, channel } = await joined();
  await done(meeting.enable('camera'));
  channel.drop();
  await vi.advanceTimersByTimeAsync(1000);
  await until(() => channels.length === 2 && produced(last()).length === 1);
  expect(produced(last())).toEqual(produced(channel));
  expect(workers[1]?.received).toEqual([]);
});

test('when the worker dies nothing is sent, and it is said; joining again starts another', async () => {
  const { meeting, channel } = await joined();
  await done(meeting.enable('camera'));
  channel.say('newProducer', offer('ann', 'video-1', { e2ee: E2EE }));
  await settle();
  const worker = workers[0];
  if (!worker) throw new Error('no worker');
  worker.isDeaf = true;
  await vi.advanceTimersByTimeAsync(15_000);
  expect(meeting.snapshot).toMatchObject({
    status: 'failed',
    encryption: { state: 'failed', code: null },
    error: { code: 'encryption-failed' },
  });
  expect(channel.isClosed).toBe(true);
  for (const handler of handlers) expect(handler.close).toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(channels).toHaveLength(1);

  await done(meeting.join());
  await until(() => produced(last()).length === 1);
  expect(meeting.snapshot).toMatchObject({ status: 'joined', encryption: { state: 'on' } });
  const salts = channels.map((one) => (produced(one)[0] as { e2ee: typeof E2EE }).e2ee.salt);
  expect(new Set(salts).size).toBe(2);
});

test('when the worker dies in front of a locked room, nobody is left there who knocks', async () => {
  const meeting = makeMeeting({
    openChannel: async () => {
      const channel = new FakeChannel();
      channel.hold('setRtpCapabilities');
      channels.push(channel);
      return channel;
    },
  });
  const joining = meeting.join();
  joining.catch(() => undefined);
  await until(() => channels[0]?.names().includes('setRtpCapabilities'));
  last().say('waiting', {});
  expect(meeting.snapshot.status).toBe('waiting');
  const [worker] = workers;
  if (!worker) throw new Error('no worker');
  worker.isDeaf = true;
  await vi.advanceTimersByTimeAsync(15_000);
  expect(meeting.snapshot).toMatchObject({
    status: 'failed',
    error: { code: 'encryption-failed' },
  });
  expect(last().isClosed).toBe(true);
  await expect(done(joining)).rejects.toBe(meeting.snapshot.error);
  expect(meeting.snapshot.status).toBe('failed');
});

test('when the worker dies before the server has answered, joining rejects with what went wrong', async () => {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const meeting = makeMeeting({
    openChannel: async () => {
      channels.push(new FakeChannel());
      await opened;
      return last();
    },
  });
  const joining = meeting.join();
  joining.catch(() => undefined);
  await until(() => workers[0]?.received.some(({ type }) => type === 'secret'));
  await settle();
  workers[0]?.onerror?.({ message: 'out of memory' } as ErrorEvent);
  open();
  await expect(done(joining)).rejects.toMatchObject({
    code: 'encryption-failed',
    message: expect.stringContaining('out of memory'),
  });
  expect(meeting.snapshot).toMatchObject({
    status: 'failed',
    error: { code: 'encryption-failed' },
  });
  expect(last().isClosed).toBe(true);
  expect(last().names()).toEqual([]);
});

test('where a browser lacks what MLS rests on, the meeting ends and says so', async () => {
  const missing = new DOMException('Unrecognized name.', 'NotSupportedError');
  const generate = vi.spyOn(crypto.subtle, 'generateKey').mockRejectedValue(missing);
  const createWorker = () => workers[0] as unknown as Worker;
  const { meeting } = await joined({ encryption: { secret: { kind: 'mls' }, createWorker } });
  expect(meeting.snapshot.encryption.state).toBe('waiting-for-key');
  await until(() => meeting.snapshot.status === 'failed');
  expect(meeting.snapshot.error).toMatchObject({ code: 'encryption-failed' });
  expect(meeting.snapshot.error?.message).toContain('Ed25519');
  expect(meeting.snapshot.encryption.state).toBe('failed');
  generate.mockRestore();
});

test('a secret can come later, and is waited for', async () => {
  const worker = () => workers[0] as unknown as Worker;
  const { meeting } = await joined({ encryption: { createWorker: worker } });
  expect(meeting.snapshot.encryption).toEqual({ state: 'waiting-for-key', code: null });
  expect(other(meeting, 'me')?.encryption).toBe('waiting-for-key');
  await done(meeting.enable('camera'));
  const camera = workers[0]?.track(optionsOf(0));
  expect(await camera?.pass(FRAMES.vp8)).toBeUndefined();
  await done(meeting.setEncryptionSecret(secretOfLinkKey(KEY)));
  expect(await camera?.pass(FRAMES.vp8)).toBeDefined();
  await until(() => meeting.snapshot.encryption.code);
  expect(meeting.snapshot.encryption).toMatchObject({ state: 'on', code: expect.any(String) });
  expect(other(meeting, 'me')?.encryption).toBe('encrypted');
});

test('a secret that is set while the worker starts is the one in use', async () => {
  const meeting = makeMeeting();
  const joining = meeting.join();
  await meeting.setEncryptionSecret(secretOfLinkKey(newLinkKey()));
  await meeting.setEncryptionSecret(secretOfLinkKey(newLinkKey()));
  const last = secretOfLinkKey(newLinkKey());
  await meeting.setEncryptionSecret(last);
  await done(joining);
  const set = workers[0]?.received.filter((message) => message.type === 'secret').at(-1);
  expect(set).toMatchObject({ secret: last });
});

test('a worker that does not start fails the joining, in words, and leaves no connection', async () => {
  const worker = workers[0];
  if (!worker) throw new Error('no worker');
  worker.isDeaf = true;
  const meeting = makeMeeting();
  const joining = meeting.join();
  joining.catch(() => undefined);
  await settle();
  worker.onerror?.({ message: 'blocked by the page' } as ErrorEvent);
  await expect(done(joining)).rejects.toMatchObject({
    code: 'encryption-failed',
    message: expect.stringContaining('blocked by the page'),
  });
  expect(meeting.snapshot.status).toBe('failed');
  expect(last().isClosed).toBe(true);
  expect(last().names()).toEqual([]);
});

test('leaving ends the worker, also while it starts', async () => {
  const { meeting } = await joined();
  meeting.leave();
  expect(workers[0]?.isTerminated).toBe(true);
  const again = meeting.join();
  meeting.leave();
  await done(again);
  expect(workers[1]?.isTerminated).toBe(true);
  expect(channels.every(({ isClosed }) => isClosed)).toBe(true);
});
