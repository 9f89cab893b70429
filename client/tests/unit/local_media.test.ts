import { FakeMediaStreamTrack } from 'fake-mediastreamtrack';
import type { FakeHandler } from 'mediasoup-client/handlers/FakeHandler';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Meeting } from '../../src/sdk/meeting';
import { FakeChannel, handlers, makeDevice } from './fake-server';

/** What is plugged in, by kind. */
let plugged: { kind: 'videoinput' | 'audioinput'; deviceId: string; label: string }[];
let opened: { constraints: MediaStreamConstraints; tracks: FakeMediaStreamTrack[] }[];
let denied: string[];
let listeners: Set<() => void>;
let channel: FakeChannel;
let isProducingHeld: boolean;
let isPausingRefused: boolean;

beforeEach(() => {
  vi.useFakeTimers();
  plugged = [
    { kind: 'videoinput', deviceId: 'cam-1', label: 'Desk camera' },
    { kind: 'audioinput', deviceId: 'mic-1', label: 'Headset' },
  ];
  opened = [];
  denied = [];
  isProducingHeld = false;
  isPausingRefused = false;
  listeners = new Set();
  vi.stubGlobal('navigator', {
    mediaDevices: {
      getUserMedia: open,
      getDisplayMedia: async (constraints: MediaStreamConstraints) =>
        note(constraints, [
          new FakeMediaStreamTrack({ kind: 'video' }),
          ...(constraints.audio ? [new FakeMediaStreamTrack({ kind: 'audio' })] : []),
        ]),
      enumerateDevices: async () => plugged,
      addEventListener: (_: string, listener: () => void) => listeners.add(listener),
      removeEventListener: (_: string, listener: () => void) => listeners.delete(listener),
    },
    permissions: { query: async () => ({ state: 'prompt' }) },
  });
  vi.spyOn(console, 'info').mockImplementation(() => undefined);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

function note(constraints: MediaStreamConstraints, tracks: FakeMediaStreamTrack[]) {
  opened.push({ constraints, tracks });
  return { getTracks: () => tracks };
}

/** As a browser: the device that is asked for, or any of its kind. */
async function open(constraints: MediaStreamConstraints) {
  const tracks = (['video', 'audio'] as const).flatMap((kind) => {
    const wanted = constraints[kind];
    if (!wanted) return [];
    if (denied.includes(kind)) throw new DOMException('no', 'NotAllowedError');
    const exactly = (wanted as { deviceId?: { exact: string } }).deviceId?.exact;
    const found = plugged.find(
      (device) => device.kind === `${kind}input` && (!exactly || device.deviceId === exactly),
    );
    if (!found) throw new DOMException('none', 'NotFoundError');
    const track = new FakeMediaStreamTrack({ kind, label: found.label });
    track.getSettings = () => ({ deviceId: found.deviceId });
    return [track];
  });
  return note(constraints, tracks);
}

const settle = () => vi.advanceTimersByTimeAsync(0);

async function unplug(deviceId: string) {
  const gone = plugged.find((device) => device.deviceId === deviceId);
  plugged = plugged.filter((device) => device !== gone);
  for (const { tracks } of opened) {
    for (const track of tracks) if (track.label === gone?.label) track.remoteStop();
  }
  await settle();
  for (const listener of listeners) listener();
  await settle();
}

async function plugIn(device: (typeof plugged)[number]) {
  plugged.push(device);
  for (const listener of listeners) listener();
  await settle();
}

async function joined(): Promise<Meeting> {
  const meeting = new Meeting({
    url: 'ws://unused',
    meetingId: 'm',
    participantId: 'me',
    displayName: 'Me',
    makeDevice,
    openChannel: async () => {
      channel = new FakeChannel();
      if (isProducingHeld) channel.hold('produce');
      if (isPausingRefused) channel.refused.add('pauseProducer');
      return channel;
    },
  });
  await meeting.join();
  return meeting;
}

const own = (meeting: Meeting) => meeting.snapshot.participants[0]?.media;

test('camera and microphone are asked for by one question', async () => {
  const meeting = await joined();
  await meeting.enableBoth();
  expect(opened).toHaveLength(1);
  expect(meeting.snapshot.devices).toMatchObject({ camera: 'on', microphone: 'on' });
});

test('where one is missing the other goes on without it', async () => {
  const meeting = await joined();
  await unplug('cam-1');
  await expect(meeting.enableBoth()).rejects.toMatchObject({ code: 'device-missing' });
  expect(meeting.snapshot.devices).toMatchObject({ camera: 'off', microphone: 'on' });
});

test('whoever says no is not asked again', async () => {
  const meeting = await joined();
  denied = ['video', 'audio'];
  const asked = vi.spyOn(navigator.mediaDevices, 'getUserMedia');
  await expect(meeting.enableBoth()).rejects.toMatchObject({ code: 'device-denied' });
  expect(asked).toHaveBeenCalledOnce();
});

test('whoever is muted stays so when both are started, and nothing is opened twice', async () => {
  const meeting = await joined();
  await meeting.enable('microphone');
  await meeting.mute();
  await meeting.enableBoth();
  expect(meeting.snapshot.devices).toMatchObject({ camera: 'on', microphone: 'muted' });
  expect(own(meeting)?.microphone?.track?.enabled).toBe(false);
  expect(opened.map(({ constraints }) => Object.keys(constraints))).toEqual([['audio'], ['video']]);
  await meeting.enableBoth();
  expect(opened).toHaveLength(2);
  expect(meeting.snapshot.devices).toMatchObject({ camera: 'on', microphone: 'muted' });
});

test('what is opened with the other and started by itself meanwhile is given back', async () => {
  const meeting = await joined();
  // Its turn comes first, and the question for both has been put by then.
  await Promise.all([meeting.disable('camera'), meeting.enable('camera'), meeting.enableBoth()]);
  expect(meeting.snapshot.devices).toMatchObject({ camera: 'on', microphone: 'on' });
  const live = opened
    .flatMap(({ tracks }) => tracks)
    .filter(({ readyState }) => readyState === 'live');
  const kept = own(meeting);
  expect(new Set(live)).toEqual(new Set([kept?.camera?.track, kept?.microphone?.track]));
});

test('what a browser opens after its meeting was left is given back, also if that was entered again', async () => {
  const meeting = await joined();
  const slow: (() => void)[] = [];
  vi.spyOn(navigator.mediaDevices, 'getUserMedia').mockImplementation(async (constraints = {}) => {
    await new Promise<void>((resolve) => slow.push(resolve));
    return (await open(constraints)) as unknown as MediaStream;
  });
  const starting = [meeting.enable('camera'), meeting.enable('microphone')];
  await settle();
  meeting.leave();
  await meeting.join();
  for (const go of slow) go();
  await Promise.all(starting);
  expect(meeting.snapshot.devices).toMatchObject({ camera: 'off', microphone: 'off' });
  expect(opened.flatMap(({ tracks }) => tracks.map((track) => track.readyState))).toEqual([
    'ended',
    'ended',
  ]);
});

test('a track and its sound that come too late are both given back', async () => {
  const meeting = await joined();
  await meeting.enable('screen');
  const [track, sound] = [
    new FakeMediaStreamTrack({ kind: 'video' }),
    new FakeMediaStreamTrack({ kind: 'audio' }),
  ];
  await meeting.enable('screen', {
    track: track as unknown as MediaStreamTrack,
    sound: sound as unknown as MediaStreamTrack,
  });
  expect([track.readyState, sound.readyState]).toEqual(['ended', 'ended']);
});

test('a track that is given goes on, and nobody is asked', async () => {
  const meeting = await joined();
  const track = new FakeMediaStreamTrack({ kind: 'video' });
  await meeting.enable('camera', { track: track as unknown as MediaStreamTrack });
  expect(opened).toHaveLength(0);
  expect(own(meeting)?.camera?.track).toBe(track);
});

test('a microphone that is unplugged is replaced by another, with words, and comes back', async () => {
  const meeting = await joined();
  await meeting.enable('microphone');
  await meeting.mute();
  plugged.push({ kind: 'audioinput', deviceId: 'mic-2', label: 'Built-in' });
  await unplug('mic-1');
  expect(own(meeting)?.microphone?.track?.label).toBe('Built-in');
  // Whoever was muted is so on the other device.
  expect(meeting.snapshot.devices.microphone).toBe('muted');
  expect(own(meeting)?.microphone?.track?.enabled).toBe(false);
  expect(meeting.snapshot.error).toMatchObject({
    code: 'device-lost',
    message: 'Headset was unplugged. Built-in is used instead.',
  });
  await plugIn({ kind: 'audioinput', deviceId: 'mic-1', label: 'Headset' });
  expect(own(meeting)?.microphone?.track?.label).toBe('Headset');
  expect(meeting.snapshot.error).toBeNull();
  expect(meeting.snapshot.devices.microphone).toBe('muted');
  // The others have seen one track all the time.
  expect(channel.names().filter((name) => /^(produce|closeProducer)$/.test(name))).toEqual([
    'produce',
  ]);
  expect(
    opened.flatMap(({ tracks }) => tracks).filter(({ readyState }) => readyState === 'live'),
  ).toHaveLength(1);
});

test('a camera that has no substitute goes on when it, or another, is plugged in', async () => {
  const meeting = await joined();
  await meeting.enable('camera');
  await unplug('cam-1');
  expect(meeting.snapshot.devices.camera).toBe('off');
  expect(meeting.snapshot.error?.message).toBe(
    'Desk camera was unplugged. Plug it in again, and it goes on.',
  );
  expect(channel.names()).toContain('closeProducer');
  await plugIn({ kind: 'videoinput', deviceId: 'cam-9', label: 'Other camera' });
  expect(meeting.snapshot.devices.camera).toBe('on');
  expect(own(meeting)?.camera?.track?.label).toBe('Other camera');
  expect(meeting.snapshot.error).toBeNull();
});

test('a camera that was switched off meanwhile stays off', async () => {
  const meeting = await joined();
  await meeting.enable('camera');
  await unplug('cam-1');
  await meeting.disable('camera');
  await plugIn({ kind: 'videoinput', deviceId: 'cam-1', label: 'Desk camera' });
  expect(meeting.snapshot.devices.camera).toBe('off');
  meeting.leave();
  expect(listeners.size).toBe(0);
});

test('a screen is shared with its sound and in temporal layers, and both end together', async () => {
  const meeting = await joined();
  await meeting.enable('screen');
  const produced = channel.asked.filter(({ name }) => name === 'produce');
  expect(produced.map(({ data }) => (data.appData as { source: string }).source)).toEqual([
    'screen',
    'screenAudio',
  ]);
  const [picture] = produced.map(({ data }) => data.rtpParameters as RTCRtpSendParameters);
  expect(picture?.encodings[0]).toMatchObject({ scalabilityMode: 'L1T3' });
  opened[0]?.tracks[0]?.remoteStop();
  await settle();
  expect(meeting.snapshot.devices.screen).toBe('off');
  expect(own(meeting)).toEqual({});
  expect(opened[0]?.tracks[1]?.readyState).toBe('ended');
  expect(channel.names().filter((name) => name === 'closeProducer')).toHaveLength(2);
});

test('another microphone takes the place of the one before, which is still the chosen one later', async () => {
  const meeting = await joined();
  await meeting.enable('microphone');
  plugged = [...plugged, { kind: 'audioinput', deviceId: 'mic-2', label: 'Table' }];
  await meeting.switchDevice('microphone', 'mic-2');
  const track = () => own(meeting)?.microphone?.track;
  expect(track()?.label).toBe('Table');
  expect(opened[0]?.tracks[0]?.readyState).toBe('ended');
  expect(channel.names().filter((name) => name === 'produce')).toHaveLength(1);
  await meeting.switchDevice('microphone', 'mic-2');
  expect(opened).toHaveLength(2);

  await meeting.disable('microphone');
  await meeting.enable('microphone');
  expect(opened.at(-1)?.constraints.audio).toMatchObject({ deviceId: { ideal: 'mic-2' } });
});

/** The browser takes its time to send another track, until this is called. */
function slowly(handler: FakeHandler | undefined) {
  let end: (error?: Error) => void = () => undefined;
  vi.spyOn(handler as FakeHandler, 'replaceTrack').mockImplementation(
    () =>
      new Promise<void>((resolve, reject) => {
        end = (error) => (error ? reject(error) : resolve());
      }),
  );
  return (error?: Error) => end(error);
}

test('a track that the browser does not send is given back, and the one before goes on', async () => {
  const meeting = await joined();
  await meeting.enable('microphone');
  plugged = [...plugged, { kind: 'audioinput', deviceId: 'mic-2', label: 'Table' }];
  await meeting.mute();
  const end = slowly(handlers.at(-2));
  const switching = meeting.switchDevice('microphone', 'mic-2');
  await settle();
  // Whoever is muted is so at each moment.
  expect(opened[1]?.tracks[0]?.enabled).toBe(false);
  end(new Error('not this one'));
  await expect(switching).rejects.toThrow('not this one');
  expect(opened.flatMap(({ tracks }) => tracks.map((track) => track.readyState))).toEqual([
    'live',
    'ended',
  ]);
  expect(own(meeting)?.microphone?.track?.label).toBe('Headset');
});

test('another device is the one that is sent, also if the session is lost while it is taken', async () => {
  const meeting = await joined();
  await meeting.enable('microphone');
  plugged = [...plugged, { kind: 'audioinput', deviceId: 'mic-2', label: 'Table' }];
  slowly(handlers.at(-2));
  const switching = meeting.switchDevice('microphone', 'mic-2');
  await settle();
  channel.drop();
  await switching;
  await vi.advanceTimersByTimeAsync(5_000);
  expect(meeting.snapshot).toMatchObject({ status: 'joined', devices: { microphone: 'on' } });
  expect(channel.names()).toContain('produce');
  expect(own(meeting)?.microphone?.track).toMatchObject({ label: 'Table', readyState: 'live' });
});

test('a meeting that is left while another device is taken shows neither, and stops both', async () => {
  const meeting = await joined();
  await meeting.enable('microphone');
  plugged = [...plugged, { kind: 'audioinput', deviceId: 'mic-2', label: 'Table' }];
  const end = slowly(handlers.at(-2));
  const switching = meeting.switchDevice('microphone', 'mic-2');
  await settle();
  meeting.leave();
  end();
  await switching.catch(() => undefined);
  expect(opened.flatMap(({ tracks }) => tracks.map((track) => track.readyState))).toEqual([
    'ended',
    'ended',
  ]);
  expect(own(meeting)).toEqual({});
});

test('a device that is not there is told by code, with what it is', async () => {
  const meeting = await joined();
  await meeting.enable('camera');
  await expect(meeting.switchDevice('camera', 'gone')).rejects.toMatchObject({
    code: 'device-missing',
    facts: { source: 'camera' },
  });
  expect(meeting.snapshot.devices.camera).toBe('on');
});

test.each(['once', 'twice'])(
  'what is being sent when the session is lost (%s) is sent on the next, and nothing is said of it',
  async (times) => {
    const meeting = await joined();
    const first = channel;
    first.hold('produce');
    const starting = Promise.all([meeting.enable('camera'), meeting.enable('microphone')]);
    await settle();
    expect(first.names().filter((name) => name === 'produce')).toHaveLength(1);
    const errors = vi.fn();
    meeting.on('error', errors);
    if (times === 'twice') {
      isProducingHeld = true;
      first.drop();
      await vi.advanceTimersByTimeAsync(2_000);
      expect(channel).not.toBe(first);
      expect(channel.names()).toContain('produce');
      isProducingHeld = false;
    }
    channel.drop();
    await starting;
    await vi.advanceTimersByTimeAsync(5_000);
    expect(meeting.snapshot).toMatchObject({
      status: 'joined',
      error: null,
      devices: { camera: 'on', microphone: 'on' },
    });
    expect(errors).not.toHaveBeenCalled();
    expect(channel.names().filter((name) => name === 'produce')).toHaveLength(2);
  },
);

test('what is switched while the session is lost is so on the next', async () => {
  const meeting = await joined();
  await meeting.enableBoth();
  await meeting.mute();
  for (const name of ['resumeProducer', 'closeProducer'] as const) channel.hold(name);
  const changing = Promise.all([meeting.unmute(), meeting.disable('camera')]);
  await settle();
  channel.drop();
  await changing;
  await vi.advanceTimersByTimeAsync(5_000);
  expect(meeting.snapshot).toMatchObject({
    status: 'joined',
    error: null,
    devices: { camera: 'off', microphone: 'on' },
  });
  expect(channel.names().filter((name) => /^(produce|pauseProducer)$/.test(name))).toEqual([
    'produce',
  ]);
  expect(own(meeting)?.microphone?.track?.enabled).toBe(true);
});

test('a track that is given twice goes on, and so does its device when it is switched off and on', async () => {
  const meeting = await joined();
  plugged.unshift({ kind: 'videoinput', deviceId: 'cam-0', label: 'Other camera' });
  const [track] = (await open({ video: { deviceId: { exact: 'cam-1' } } })).getTracks();
  const given = { track: track as unknown as MediaStreamTrack };
  await meeting.enable('camera', given);
  await meeting.enable('camera', given);
  expect(track?.readyState).toBe('live');
  const other = new FakeMediaStreamTrack({ kind: 'video' });
  await meeting.enable('camera', { track: other as unknown as MediaStreamTrack });
  expect([track?.readyState, other.readyState]).toEqual(['live', 'ended']);
  await meeting.disable('camera');
  await meeting.enable('camera');
  expect(opened.at(-1)?.constraints.video).toMatchObject({ deviceId: { ideal: 'cam-1' } });
});

test('a screen that ends is given up with its sound, although the server refuses to close one of them', async () => {
  const unhandled = vi.fn();
  process.on('unhandledRejection', unhandled);
  const meeting = await joined();
  await meeting.enable('screen');
  channel.refused.add('closeProducer');
  const [screen] = opened.at(-1)?.tracks ?? [];
  screen?.remoteStop();
  await settle();
  vi.useRealTimers();
  await new Promise((resolve) => setTimeout(resolve, 20));
  process.off('unhandledRejection', unhandled);
  expect(unhandled).not.toHaveBeenCalled();
  expect(channel.names().filter((name) => name === 'closeProducer')).toHaveLength(2);
  expect(meeting.snapshot.devices.screen).toBe('off');
});

test('what is muted and cannot be muted at the server is not sent at all', async () => {
  const meeting = await joined();
  await meeting.enable('microphone');
  await meeting.mute();
  const first = channel;
  isPausingRefused = true;
  first.drop();
  await vi.advanceTimersByTimeAsync(3_000);
  expect(channel).not.toBe(first);
  const names = channel.names().filter((name) => /Producer|produce$/.test(name));
  expect(names).toEqual(['produce', 'pauseProducer', 'closeProducer']);
  expect(meeting.snapshot.error).toMatchObject({ code: 'request-refused' });
});
