import { FakeMediaStreamTrack } from 'fake-mediastreamtrack';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { MeetingError } from '../../src/sdk/errors';
import { Meeting } from '../../src/sdk/meeting';
import type { Requests } from '../../src/sdk/protocol';
import { FakeChannel, fakeDevices, handlers, holdReceiving, makeDevice } from './fake-server';

let channels: FakeChannel[];
let devices: ReturnType<typeof fakeDevices>;
let isServerUp: boolean;
let refusal: MeetingError;
let refusedFromTheStart: (keyof Requests)[];

beforeEach(() => {
  vi.useFakeTimers();
  channels = [];
  handlers.length = 0;
  devices = fakeDevices();
  isServerUp = true;
  refusal = new MeetingError('server-unreachable', 'not there');
  refusedFromTheStart = [];
  vi.stubGlobal('navigator', { mediaDevices: devices.mediaDevices });
  vi.spyOn(console, 'info').mockImplementation(() => undefined);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

function makeMeeting(device = makeDevice): Meeting {
  return new Meeting({
    url: 'ws://unused',
    meetingId: 'm',
    participantId: 'me',
    displayName: 'Me',
    makeDevice: device,
    openChannel: async () => {
      if (!isServerUp) throw refusal;
      const channel = new FakeChannel();
      for (const name of refusedFromTheStart) channel.refused.add(name);
      channels.push(channel);
      return channel;
    },
  });
}

async function joined(): Promise<{ meeting: Meeting; channel: FakeChannel }> {
  const meeting = makeMeeting();
  await meeting.join();
  return { meeting, channel: last() };
}

function last(): FakeChannel {
  const channel = channels.at(-1);
  if (!channel) throw new Error('nobody connected');
  return channel;
}

/** Lets everything happen that needs no time. */
const settle = () => vi.advanceTimersByTimeAsync(0);

const offer = (participantId: string, producerId: string, displayName?: string) => ({
  participantId,
  producerId,
  kind: producerId.startsWith('audio') ? ('audio' as const) : ('video' as const),
  appData: displayName ? { displayName } : {},
});

test('joining asks for all it needs in one breath, then says what it can receive', async () => {
  const { meeting, channel } = await joined();
  expect(meeting.snapshot.status).toBe('joined');
  expect(channel.names()).toEqual([
    'getRouterCapabilities',
    'createTransport',
    'createTransport',
    'setRtpCapabilities',
  ]);
  expect(channel.asked[3]?.data.displayName).toBe('Me');
});

test('a server that is not there fails the joining, in words', async () => {
  isServerUp = false;
  const meeting = makeMeeting();
  await expect(meeting.join()).rejects.toMatchObject({ code: 'server-unreachable' });
  expect(meeting.snapshot).toMatchObject({ status: 'failed', error: { message: 'not there' } });
  isServerUp = true;
  await meeting.join();
  expect(meeting.snapshot).toMatchObject({ status: 'joined', error: null });
});

test('what is announced is received, and shown under its owner’s name', async () => {
  const { meeting, channel } = await joined();
  channel.say('newParticipant', { participantId: 'ann' });
  channel.say('newProducer', offer('ann', 'video-1', 'Ann'));
  channel.say('newProducer', offer('ann', 'audio-1', 'Ann'));
  await settle();
  const ann = meeting.snapshot.participants[1];
  expect(ann).toMatchObject({ id: 'ann', displayName: 'Ann', isLocal: false });
  expect(ann?.media.camera?.track?.kind).toBe('video');
  expect(ann?.media.microphone?.track?.kind).toBe('audio');
  expect(channel.names().filter((name) => name === 'resumeConsumer')).toHaveLength(2);
});

test('pauses, ends and farewells are shown', async () => {
  const { meeting, channel } = await joined();
  channel.say('newProducer', offer('ann', 'audio-1'));
  channel.say('newProducer', offer('ann', 'video-1'));
  await settle();
  const ann = () => meeting.snapshot.participants.find(({ id }) => id === 'ann');
  channel.say('consumerPaused', { consumerId: 'c-audio-1' });
  expect(ann()?.media.microphone?.paused).toBe(true);
  channel.say('consumerResumed', { consumerId: 'c-audio-1' });
  expect(ann()?.media.microphone?.paused).toBe(false);
  channel.say('producerClosed', { producerId: 'video-1' });
  expect(ann()?.media.camera).toBeUndefined();
  channel.say('activeSpeakers', ['ann']);
  expect(ann()?.isSpeaking).toBe(true);
  channel.say('participantLeft', { participantId: 'ann' });
  expect(ann()).toBeUndefined();
});

describe.each(['the answer', 'the negotiation'])('while %s is under way', (wait) => {
  /** Ann’s camera is offered, and is not yet received. */
  async function offered() {
    const { meeting, channel } = await joined();
    const release = wait === 'the answer' ? channel.hold('consume') : holdReceiving(handlers[1]);
    channel.say('newProducer', offer('ann', 'video-1', 'Ann'));
    await settle();
    const ann = () => meeting.snapshot.participants.find(({ id }) => id === 'ann');
    const finish = async () => {
      release();
      await settle();
    };
    return { channel, ann, finish };
  }

  test('whoever leaves does not come back as a ghost', async () => {
    const { channel, ann, finish } = await offered();
    expect(ann()?.displayName).toBe('Ann');
    channel.say('participantLeft', { participantId: 'ann' });
    await finish();
    expect(ann()).toBeUndefined();
    expect(channel.names()).not.toContain('resumeConsumer');
  });

  test('a track that ends is not shown', async () => {
    const { channel, ann, finish } = await offered();
    channel.say('producerClosed', { producerId: 'video-1' });
    await finish();
    expect(ann()?.media).toEqual({});
    expect(channel.names()).not.toContain('resumeConsumer');
  });

  test('an offer made twice is taken once', async () => {
    const { channel, ann, finish } = await offered();
    channel.say('newProducer', offer('ann', 'video-1', 'Ann'));
    await finish();
    channel.say('newProducer', offer('ann', 'video-1', 'Ann'));
    await settle();
    expect(ann()?.media.camera?.producerId).toBe('video-1');
    expect(channel.names().filter((name) => name === 'consume')).toHaveLength(1);
  });
});

test('what is said of a consumer that is still being negotiated holds', async () => {
  const { meeting, channel } = await joined();
  const release = holdReceiving(handlers[1]);
  channel.say('newProducer', offer('ann', 'audio-1'));
  channel.say('newProducer', offer('ben', 'video-1'));
  await settle();
  channel.say('consumerPaused', { consumerId: 'c-audio-1' });
  channel.say('consumerClosed', { consumerId: 'c-video-1' });
  release();
  await settle();
  const media = (id: string) => meeting.snapshot.participants.find((one) => one.id === id)?.media;
  expect(media('ann')?.microphone?.paused).toBe(true);
  expect(media('ben')).toEqual({});
});

test('whoever leaves takes their tracks along, even if the server names only the person', async () => {
  const { meeting, channel } = await joined();
  channel.say('newProducer', offer('ann', 'video-1'));
  await settle();
  const track = meeting.snapshot.participants[1]?.media.camera?.track;
  channel.say('participantLeft', { participantId: 'ann' });
  expect(track?.readyState).toBe('ended');
});

test('a picture put aside as soon as it appears is not sent all the same', async () => {
  const { meeting, channel } = await joined();
  meeting.on('trackAdded', ({ participantId, source }) => {
    void meeting.setReceiving(participantId, source, false);
  });
  channel.say('newProducer', offer('ann', 'video-1'));
  await settle();
  expect(channel.names()).toContain('pauseConsumer');
  expect(channel.names()).not.toContain('resumeConsumer');
});

test('a connection lost while the device is made ready leaves no transport behind', async () => {
  const device = await makeDevice();
  const load = device.load.bind(device);
  device.load = async (options) => {
    await load(options);
    last().drop();
  };
  const meeting = makeMeeting(async () => device);
  await expect(meeting.join()).rejects.toMatchObject({ code: 'server-gone' });
  expect(handlers).toHaveLength(0);
});

test('who joins while that is under way waits for the same, and hears the same refusal', async () => {
  const meeting = makeMeeting();
  const [first, second] = [meeting.join(), meeting.join()];
  let isIn = false;
  void second.then(() => {
    isIn = true;
  });
  await Promise.resolve();
  expect(isIn).toBe(false);
  await Promise.all([first, second]);
  expect([isIn, meeting.snapshot.status]).toEqual([true, 'joined']);
  await meeting.join();
  meeting.leave();
  refusedFromTheStart.push('setRtpCapabilities');
  const outcomes = await Promise.allSettled([meeting.join(), meeting.join()]);
  expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect(meeting.snapshot.status).toBe('failed');
});

test('a name that is chosen while the meeting is entered is the one that the others see', async () => {
  let release: () => void = () => undefined;
  const meeting = makeMeeting(async () => {
    release = last().hold('setRtpCapabilities');
    return makeDevice();
  });
  const joining = meeting.join();
  await vi.waitUntil(() => last().names().includes('setRtpCapabilities'));
  await meeting.setDisplayName('Another');
  release();
  await joining;
  expect(last().asked.filter(({ name }) => name === 'changeDisplayName')).toEqual([
    { name: 'changeDisplayName', data: { displayName: 'Another' } },
  ]);
  expect(meeting.snapshot.participants[0]?.displayName).toBe('Another');
});

test('a refusal on the way in leaves no transport open', async () => {
  const meeting = makeMeeting();
  refusedFromTheStart.push('setRtpCapabilities');
  await expect(meeting.join()).rejects.toMatchObject({ code: 'request-refused' });
  expect(handlers).toHaveLength(2);
  for (const handler of handlers) expect(handler.close).toHaveBeenCalled();
});

test('a device that is started is sent; muting pauses it, disabling ends it', async () => {
  const { meeting, channel } = await joined();
  await meeting.enable('microphone');
  expect(meeting.snapshot.devices.microphone).toBe('on');
  await meeting.mute();
  expect(meeting.snapshot.devices.microphone).toBe('muted');
  await meeting.unmute();
  await meeting.disable('microphone');
  expect(meeting.snapshot.devices.microphone).toBe('off');
  expect(devices.tracks[0]?.readyState).toBe('ended');
  expect(channel.names().slice(4)).toEqual([
    'connectTransport',
    'produce',
    'pauseProducer',
    'resumeProducer',
    'closeProducer',
  ]);
});

test('a device that is denied says so, and the meeting goes on', async () => {
  const { meeting } = await joined();
  vi.stubGlobal('navigator', {
    mediaDevices: { getUserMedia: () => Promise.reject({ name: 'NotAllowedError' }) },
  });
  await expect(meeting.enable('camera')).rejects.toMatchObject({ code: 'device-denied' });
  expect(meeting.snapshot).toMatchObject({ status: 'joined', devices: { camera: 'off' } });
  expect(meeting.snapshot.error?.code).toBe('device-denied');
  meeting.dismissError();
  expect(meeting.snapshot.error).toBeNull();
});

test('a device that the server refuses to take does not stay on', async () => {
  const { meeting, channel } = await joined();
  channel.refused.add('produce');
  await expect(meeting.enable('camera')).rejects.toMatchObject({ code: 'request-refused' });
  expect(meeting.snapshot.devices.camera).toBe('off');
  expect(meeting.snapshot.participants[0]?.media).toEqual({});
  expect(devices.tracks[0]?.readyState).toBe('ended');
  channel.refused.delete('produce');
  await meeting.enable('camera');
  expect(meeting.snapshot.devices.camera).toBe('on');
});

test('nor one that is refused after a reconnection', async () => {
  const { meeting, channel } = await joined();
  await meeting.enable('camera');
  refusedFromTheStart.push('produce');
  channel.drop();
  await vi.advanceTimersByTimeAsync(1000);
  expect(meeting.snapshot).toMatchObject({
    status: 'joined',
    devices: { camera: 'off' },
    error: { code: 'request-refused' },
  });
  expect(devices.tracks[0]?.readyState).toBe('ended');
});

test('devices started before joining are sent after it', async () => {
  const meeting = makeMeeting();
  await meeting.enable('camera');
  await meeting.join();
  await settle();
  const produce = last().asked.find(({ name }) => name === 'produce');
  expect(produce?.data).toMatchObject({
    kind: 'video',
    appData: { source: 'camera', displayName: 'Me' },
  });
  expect(produce?.data).toMatchObject({
    rtpParameters: {
      encodings: [{ maxBitrate: 100_000 }, { maxBitrate: 300_000 }, { maxBitrate: 900_000 }],
    },
  });
});

test('a lost connection is made anew, and everything is sent again', async () => {
  const { meeting, channel } = await joined();
  await meeting.enable('microphone');
  await meeting.enable('camera');
  await meeting.mute();
  channel.say('newProducer', offer('ann', 'video-1'));
  await settle();
  isServerUp = false;
  channel.drop();
  await vi.advanceTimersByTimeAsync(3000);
  expect(meeting.snapshot.status).toBe('reconnecting');
  // Nobody has left, as far as is known; but nobody can be seen.
  expect(meeting.snapshot.participants.map(({ id }) => id)).toEqual(['me', 'ann']);
  expect(meeting.snapshot.participants[1]?.media).toEqual({});
  isServerUp = true;
  await vi.advanceTimersByTimeAsync(8000);
  expect(meeting.snapshot.status).toBe('joined');
  expect(channels).toHaveLength(2);
  // Who is still there, the new server says.
  expect(meeting.snapshot.participants.map(({ id }) => id)).toEqual(['me']);
  expect(
    last()
      .names()
      .filter((name) => name === 'produce'),
  ).toHaveLength(2);
  expect(
    last()
      .names()
      .filter((name) => name === 'pauseProducer'),
  ).toHaveLength(1);
  expect(devices.tracks.map(({ readyState }) => readyState)).toEqual(['live', 'live']);
});

test('a shared screen with its sound is sent again after a restart of the server, by the same tracks', async () => {
  const { meeting, channel } = await joined();
  const [track, sound] = [
    new FakeMediaStreamTrack({ kind: 'video' }),
    new FakeMediaStreamTrack({ kind: 'audio' }),
  ];
  await meeting.enable('screen', { track, sound });
  isServerUp = false;
  channel.drop();
  await vi.advanceTimersByTimeAsync(3000);
  expect(meeting.snapshot.devices.screen).toBe('on');
  isServerUp = true;
  await vi.advanceTimersByTimeAsync(8000);
  expect(meeting.snapshot).toMatchObject({ status: 'joined', devices: { screen: 'on' } });
  const sources = last()
    .asked.filter(({ name }) => name === 'produce')
    .map(({ data }) => (data.appData as { source: string }).source);
  expect(sources.sort()).toEqual(['screen', 'screenAudio']);
  expect([track.readyState, sound.readyState]).toEqual(['live', 'live']);
  // Nobody was asked for another.
  expect(devices.tracks).toEqual([]);
});

test('what an administrator mutes is muted here, and stays so until its owner speaks again', async () => {
  const { meeting, channel } = await joined();
  await meeting.enable('microphone');
  const [track] = devices.tracks;
  const status = () => meeting.snapshot.devices.microphone;
  channel.say('producerMuted', { producerId: 'own-1', muted: true });
  expect(status()).toBe('muted');
  expect(track?.enabled).toBe(false);
  // The server is told so: else, unmuted, it would show everyone an open microphone that is none.
  expect(channel.asked.at(-1)).toEqual({ name: 'pauseProducer', data: { producerId: 'own-1' } });
  expect(meeting.snapshot.participants[0]?.media.microphone?.paused).toBe(true);
  // As long as it is, the server refuses to let it resume.
  channel.refused.add('resumeProducer');
  await expect(meeting.unmute()).rejects.toMatchObject({ code: 'muted-by-host' });
  expect([status(), track?.enabled]).toEqual(['muted', false]);
  // Whoever tries on the page sees why nothing happens, for as long as that is so.
  const facts = { source: 'microphone' };
  expect(meeting.snapshot.error).toMatchObject({ code: 'muted-by-host', facts });
  channel.refused.delete('resumeProducer');
  channel.say('producerMuted', { producerId: 'own-1', muted: false });
  expect(meeting.snapshot.error).toBeNull();
  expect([status(), track?.enabled]).toEqual(['muted', false]);
  await meeting.unmute();
  expect([status(), track?.enabled]).toEqual(['on', true]);
  // Of what is not sent here it says nothing.
  channel.say('producerMuted', { producerId: 'another', muted: true });
  expect(status()).toBe('on');
  expect(channel.names().filter((name) => name === 'pauseProducer')).toHaveLength(1);
});

test('a server that does not come back is given up, in words', async () => {
  const { meeting, channel } = await joined();
  isServerUp = false;
  channel.drop();
  await vi.advanceTimersByTimeAsync(180_000);
  expect(meeting.snapshot).toMatchObject({ status: 'failed', error: { code: 'server-gone' } });
});

test('a token that is refused on the way back is not tried again', async () => {
  const { meeting, channel } = await joined();
  isServerUp = false;
  refusal = new MeetingError('token-refused', 'You cannot enter: the token expired 61 s ago.');
  channel.drop();
  await settle();
  expect(meeting.snapshot).toMatchObject({ status: 'failed', error: { code: 'token-refused' } });
  isServerUp = true;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(channels).toHaveLength(1);
});

test('a participant is who the token says', () => {
  const claims = btoa(JSON.stringify({ sub: 'ann', video: { room: 'm' } }));
  const options = {
    url: 'ws://unused',
    meetingId: 'm',
    displayName: 'Ann',
    token: `a.${claims}.c`,
  };
  expect(new Meeting(options).participantId).toBe('ann');
  expect(new Meeting({ ...options, participantId: 'given' }).participantId).toBe('given');
});

test.each([
  [4000, 'this peer connected again'],
  [4003, 'someone who is connected has this peer id'],
])('whoever is sent away with %i does not come back by itself', async (code, reason) => {
  const { meeting, channel } = await joined();
  channel.drop(code, reason);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(channels).toHaveLength(1);
  expect(meeting.snapshot.status).toBe('failed');
  expect(meeting.snapshot.error?.message).toContain(reason);
});

test('a path that fails is searched anew; if the server cannot help, the session is made anew', async () => {
  const { meeting, channel } = await joined();
  const receiving = handlers[1];
  receiving?.setConnectionState('connected');
  receiving?.setConnectionState('failed');
  await settle();
  expect(channel.names().at(-1)).toBe('restartIce');
  receiving?.setConnectionState('connected');
  await vi.advanceTimersByTimeAsync(20_000);
  expect(channels).toHaveLength(1);

  channel.refused.add('restartIce');
  receiving?.setConnectionState('failed');
  await vi.advanceTimersByTimeAsync(1000);
  expect(channels).toHaveLength(2);
  expect(meeting.snapshot.status).toBe('joined');
});

test('a short disturbance of the path changes nothing', async () => {
  const { channel } = await joined();
  handlers[0]?.setConnectionState('connected');
  handlers[0]?.setConnectionState('disconnected');
  await vi.advanceTimersByTimeAsync(1000);
  handlers[0]?.setConnectionState('connected');
  await vi.advanceTimersByTimeAsync(20_000);
  expect(channel.names()).not.toContain('restartIce');
});

test('leaving gives everything back, and nothing is heard afterwards', async () => {
  const { meeting, channel } = await joined();
  await meeting.enable('camera');
  meeting.leave();
  expect(channel.isClosed).toBe(true);
  expect(devices.tracks[0]?.readyState).toBe('ended');
  const snapshot = meeting.snapshot;
  expect(snapshot.status).toBe('left');
  channel.say('newProducer', offer('ann', 'video-1'));
  channel.drop();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(meeting.snapshot).toBe(snapshot);
  expect(channels).toHaveLength(1);
});

test('leaving while joining leaves nothing behind', async () => {
  const meeting = makeMeeting();
  const joining = meeting.join();
  meeting.leave();
  await joining;
  await settle();
  expect(channels.every(({ isClosed }) => isClosed)).toBe(true);
  expect(meeting.snapshot.status).toBe('left');
});

test('a track that cannot be received does not keep others from it', async () => {
  vi.spyOn(console, 'warn').mockImplementation(() => undefined);
  const { meeting, channel } = await joined();
  channel.refused.add('consume');
  channel.say('newProducer', offer('ann', 'video-1'));
  await settle();
  channel.refused.delete('consume');
  channel.say('newProducer', offer('ben', 'video-2'));
  await settle();
  expect(meeting.snapshot.participants.map(({ media }) => Boolean(media.camera))).toEqual([
    false,
    false,
    true,
  ]);
});

test('layers are asked for by person', async () => {
  const { meeting, channel } = await joined();
  channel.say('newProducer', offer('ann', 'video-1'));
  await settle();
  await meeting.setPreferredLayers('ann', 'camera', { spatialLayer: 1 });
  await meeting.setPreferredLayers('nobody', 'camera', { spatialLayer: 1 });
  const asked = channel.asked.filter(({ name }) => name === 'setConsumerPreferredLayers');
  expect(asked.map(({ data }) => data)).toEqual([
    { consumerId: 'c-video-1', layers: { spatialLayer: 1 } },
  ]);
});

test('what nobody looks at is not sent', async () => {
  const { meeting, channel } = await joined();
  channel.say('newProducer', offer('ann', 'video-1'));
  await settle();
  await meeting.setReceiving('ann', 'camera', true);
  await meeting.setReceiving('ann', 'camera', false);
  await meeting.setReceiving('ann', 'camera', false);
  await meeting.setReceiving('ann', 'camera', true);
  expect(channel.names().slice(-3)).toEqual(['resumeConsumer', 'pauseConsumer', 'resumeConsumer']);
  expect(channel.names().filter((name) => name === 'pauseConsumer')).toHaveLength(1);
});

test('a frozen server is noticed within six seconds', async () => {
  const { meeting, channel } = await joined();
  await vi.advanceTimersByTimeAsync(30_000);
  expect(meeting.snapshot).toMatchObject({ status: 'joined', isUnstable: false });
  channel.isFrozen = true;
  isServerUp = false;
  await vi.advanceTimersByTimeAsync(4_000);
  expect(meeting.snapshot).toMatchObject({ status: 'joined', isUnstable: true });
  await vi.advanceTimersByTimeAsync(2_000);
  expect(meeting.snapshot).toMatchObject({ status: 'reconnecting', isUnstable: false });
  expect(channel.isClosed).toBe(true);
});

test('whatever is heard shows that the server is there', async () => {
  const { meeting, channel } = await joined();
  channel.isFrozen = true;
  for (let second = 0; second < 30; second += 1) {
    await vi.advanceTimersByTimeAsync(1_000);
    channel.say('activeSpeakers', []);
  }
  expect(meeting.snapshot).toMatchObject({ status: 'joined', isUnstable: false });
  channel.isFrozen = false;
  await vi.advanceTimersByTimeAsync(3_000);
  const { pings } = channel;
  meeting.leave();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(channel.pings).toBe(pings);
});

test('a window that is resized asks for layers once', async () => {
  const { meeting, channel } = await joined();
  channel.say('newProducer', offer('ann', 'video-1'));
  await settle();
  const asked = () =>
    channel.names().filter((name) => name === 'setConsumerPreferredLayers').length;
  await meeting.setPreferredLayers('ann', 'camera', { spatialLayer: 2, temporalLayer: 2 });
  expect(asked()).toBe(1);
  for (let step = 0; step < 34; step += 1) {
    const spatialLayer = step < 12 ? 2 : step < 24 ? 1 : 0;
    await meeting.setPreferredLayers('ann', 'camera', { spatialLayer, temporalLayer: 2 });
    await vi.advanceTimersByTimeAsync(16);
  }
  await vi.advanceTimersByTimeAsync(1_000);
  expect(asked()).toBe(2);
  expect(channel.asked.at(-1)?.data.layers).toEqual({ spatialLayer: 0, temporalLayer: 2 });
  // There and back again is no change.
  await meeting.setPreferredLayers('ann', 'camera', { spatialLayer: 1, temporalLayer: 2 });
  await meeting.setPreferredLayers('ann', 'camera', { spatialLayer: 0, temporalLayer: 2 });
  await vi.advanceTimersByTimeAsync(1_000);
  expect(asked()).toBe(2);
});

test('layers and what is put aside hold after a reconnection', async () => {
  const { meeting, channel } = await joined();
  channel.say('newProducer', offer('ann', 'video-1'));
  channel.say('newProducer', offer('ben', 'video-2'));
  await settle();
  await meeting.setPreferredLayers('ann', 'camera', { spatialLayer: 1 });
  await meeting.setReceiving('ben', 'camera', false);
  channel.drop();
  await vi.advanceTimersByTimeAsync(1000);
  last().say('newProducer', offer('ann', 'video-3'));
  last().say('newProducer', offer('ben', 'video-4'));
  await settle();
  const asked = last().asked.filter(({ name }) => /consume$|Layers$/i.test(name));
  expect(asked.map(({ data }) => data.producerId ?? data.consumerId)).toEqual([
    'video-3',
    'c-video-3',
  ]);
});

test('whoever does not come back after a reconnection is somebody else another day', async () => {
  const { meeting, channel } = await joined();
  channel.say('newParticipant', { participantId: 'ann' });
  channel.say('newParticipant', { participantId: 'ben' });
  for (const id of ['ann', 'ben', 'to-come']) await meeting.setReceiving(id, 'camera', false);
  isServerUp = false;
  channel.drop();
  // Some attempts fail first.
  await vi.advanceTimersByTimeAsync(2_000);
  isServerUp = true;
  await vi.advanceTimersByTimeAsync(10_000);
  expect(meeting.snapshot.status).toBe('joined');
  await vi.advanceTimersByTimeAsync(60_000);
  last().say('newParticipant', { participantId: 'ben' });
  await vi.advanceTimersByTimeAsync(60_000);
  for (const id of ['ann', 'ben', 'to-come']) last().say('newProducer', offer(id, `video-${id}`));
  await vi.advanceTimersByTimeAsync(1_000);
  const consumed = last().asked.filter(({ name }) => name === 'consume');
  expect(consumed.map(({ data }) => data.producerId)).toEqual(['video-ann']);
  meeting.leave();
});

test('of a room of 500 no more than 30 tracks are received, by what is looked at and who speaks', async () => {
  const { meeting, channel } = await joined();
  const people = Array.from({ length: 499 }, (_, index) => `p${index}`);
  for (const id of people) {
    channel.say('newProducer', offer(id, `video-${id}`));
    channel.say('newProducer', offer(id, `audio-${id}`));
  }
  await vi.advanceTimersByTimeAsync(100);
  const received = () => {
    const open = new Set<unknown>();
    for (const { name, data } of channel.asked) {
      if (name === 'consume') open.add(`c-${data.producerId}`);
      if (name === 'closeConsumer') open.delete(data.consumerId);
    }
    return open;
  };
  expect(received().size).toBeLessThanOrEqual(30);
  expect(meeting.snapshot.participants).toHaveLength(500);
  const shown = ['p400', 'p401', 'p402'];
  for (const id of people) void meeting.setReceiving(id, 'camera', shown.includes(id));
  channel.say('activeSpeakers', ['p300']);
  await vi.advanceTimersByTimeAsync(100);
  expect(received().size).toBeLessThanOrEqual(30);
  for (const id of shown) expect(received()).toContain(`c-video-${id}`);
  expect(received()).toContain('c-audio-p300');
  const media = (id: string) => meeting.snapshot.participants.find((one) => one.id === id)?.media;
  expect(media('p400')?.camera?.track?.kind).toBe('video');
  expect(media('p200')?.camera).toMatchObject({ producerId: 'video-p200', track: null });
  expect(channel.names().filter((name) => name === 'consume').length).toBeLessThan(60);
});

test('a name that is told just as the session is lost is the name on the next', async () => {
  const { meeting, channel } = await joined();
  channel.hold('changeDisplayName');
  const renaming = meeting.setDisplayName('Myself');
  await settle();
  expect(channel.names()).toContain('changeDisplayName');
  channel.drop();
  await renaming;
  await vi.advanceTimersByTimeAsync(1_000);
  const entry = last().asked.find(({ name }) => name === 'setRtpCapabilities');
  expect(entry?.data).toMatchObject({ displayName: 'Myself' });
  meeting.leave();
});

test('a path is searched anew three times before the session is given up', async () => {
  const { meeting, channel } = await joined();
  handlers[1]?.setConnectionState('connected');
  handlers[1]?.setConnectionState('failed');
  const restarts = () => channel.names().filter((name) => name === 'restartIce').length;
  await vi.advanceTimersByTimeAsync(1_900);
  expect(restarts()).toBe(1);
  await vi.advanceTimersByTimeAsync(200);
  expect(restarts()).toBe(2);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(restarts()).toBe(3);
  expect(meeting.snapshot.status).toBe('joined');
  handlers[1]?.setConnectionState('connected');
  await vi.advanceTimersByTimeAsync(20_000);
  expect([restarts(), channels.length]).toEqual([3, 1]);
  handlers[1]?.setConnectionState('failed');
  await vi.advanceTimersByTimeAsync(10_000);
  expect([restarts(), channels.length]).toEqual([6, 2]);
});

test('a rename is no other meeting', async () => {
  const { meeting, channel } = await joined();
  await meeting.setDisplayName('Myself');
  expect(channel.asked.at(-1)).toEqual({
    name: 'changeDisplayName',
    data: { displayName: 'Myself' },
  });
  expect(meeting.snapshot.participants[0]?.displayName).toBe('Myself');
  channel.refused.add('changeDisplayName');
  await expect(meeting.setDisplayName('Someone')).rejects.toMatchObject({
    code: 'request-refused',
  });
  expect(meeting.snapshot.participants[0]?.displayName).toBe('Myself');
  channel.drop();
  await vi.advanceTimersByTimeAsync(1000);
  expect(last().asked[3]?.data.displayName).toBe('Myself');
});

test('on a page without https there is an id all the same', () => {
  vi.stubGlobal('crypto', { getRandomValues: crypto.getRandomValues.bind(crypto) });
  const options = { url: 'ws://unused', meetingId: 'm', displayName: 'Ann' };
  const ids = [new Meeting(options).participantId, new Meeting(options).participantId];
  for (const id of ids)
    expect(id).toMatch(/^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
  expect(new Set(ids).size).toBe(2);
});
