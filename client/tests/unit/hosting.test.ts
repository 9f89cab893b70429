import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Meeting } from '../../src/sdk/meeting';
import type { Rights } from '../../src/sdk/protocol';
import { FakeChannel, fakeDevices, makeDevice } from './fake-server';

let channels: FakeChannel[];
/** Whether the room is locked with a waiting room. */
let isLocked: boolean;
const releases: (() => void)[] = [];

const RIGHTS: Rights = { host: true, publish: true, sources: [], subscribe: true, data: true };

beforeEach(() => {
  vi.useFakeTimers();
  channels = [];
  isLocked = false;
  vi.stubGlobal('navigator', { mediaDevices: fakeDevices().mediaDevices });
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function makeMeeting(entrance: FakeChannel['entrance'] = {}): Meeting {
  return new Meeting({
    url: 'ws://unused',
    meetingId: 'm',
    participantId: 'me',
    displayName: 'Me',
    makeDevice,
    openChannel: async () => {
      const channel = new FakeChannel();
      const lock = { roomLocked: isLocked, waitingRoom: isLocked };
      channel.entrance = { can: RIGHTS, ...lock, ...entrance };
      if (isLocked) releases.push(channel.hold('createTransport'));
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

/** In front of the room. */
async function waiting(): Promise<{ meeting: Meeting; joining: Promise<unknown> }> {
  isLocked = true;
  const meeting = makeMeeting();
  const joining = meeting.join().catch((error) => error);
  await vi.advanceTimersByTimeAsync(0);
  last().say('waiting', {});
  return { meeting, joining };
}

test('what hosts do is asked in the server’s words', async () => {
  const { meeting, channel } = await joined();
  const before = channel.asked.length;
  await meeting.hostMute('ann', 'audio');
  await meeting.hostMute('ann', 'screen', false);
  await meeting.remove('ann');
  await meeting.lock(true);
  await meeting.lock(true, { waitingRoom: false });
  await meeting.lock(false);
  await meeting.admit('ben');
  await meeting.deny('ben');
  expect(channel.asked.slice(before).map(({ name, data }) => [name, data])).toEqual([
    ['muteParticipant', { target: 'ann', source: 'microphone', muted: true }],
    ['muteParticipant', { target: 'ann', source: 'screen_share', muted: false }],
    ['removeParticipant', { target: 'ann' }],
    ['lockRoom', { locked: true, waitingRoom: true }],
    ['lockRoom', { locked: true, waitingRoom: false }],
    ['lockRoom', { locked: false, waitingRoom: false }],
    ['admitParticipant', { target: 'ben' }],
    ['denyParticipant', { target: 'ben' }],
  ]);
  channel.refused.add('lockRoom');
  await expect(meeting.lock(true)).rejects.toMatchObject({ code: 'request-refused' });
  meeting.leave();
  await expect(meeting.remove('ann')).rejects.toMatchObject({ code: 'server-gone' });
});

test('what a host muted is shown to them until they let it be heard again', async () => {
  const { meeting, channel } = await joined();
  const ann = { participantId: 'ann', source: 'microphone' };
  const ben = { participantId: 'ben', source: 'camera' };
  await meeting.hostMute('ann', 'audio');
  await meeting.hostMute('ben', 'camera');
  await meeting.hostMute('ann', 'microphone');
  expect(meeting.snapshot.mutes).toEqual([ben, ann]);
  channel.refused.add('muteParticipant');
  await expect(meeting.hostMute('ben', 'camera', false)).rejects.toThrow();
  expect(meeting.snapshot.mutes).toEqual([ben, ann]);
  // The room keeps them when one's own session is lost, or they come again.
  channel.drop();
  await vi.advanceTimersByTimeAsync(3_000);
  expect(meeting.snapshot.mutes).toEqual([ben, ann]);
  await meeting.hostMute('ben', 'video', false);
  expect(meeting.snapshot.mutes).toEqual([ann]);
  meeting.leave();
  expect(meeting.snapshot.mutes).toEqual([]);
});

test('rights, the lock and who waits are shown', async () => {
  const { meeting, channel } = await joined();
  const came = vi.fn();
  meeting.on('participantWaiting', came);
  expect(meeting.snapshot).toMatchObject({ isHost: true, locked: false, waiting: [] });
  channel.say('roomLocked', { locked: true, waitingRoom: true, by: 'me' });
  channel.say('participantWaiting', { participantId: 'ann', displayName: 'ann' });
  channel.say('participantWaiting', { participantId: 'ben', displayName: 'Ben' });
  channel.say('participantWaiting', { participantId: 'ann', displayName: 'Ann' });
  expect(meeting.snapshot).toMatchObject({ locked: true, waitingRoom: true });
  expect(meeting.snapshot.waiting).toEqual([
    { id: 'ann', name: 'Ann' },
    { id: 'ben', name: 'Ben' },
  ]);
  expect(came.mock.calls.map(([one]) => one.id)).toEqual(['ann', 'ben']);
  channel.say('participantWaitingEnded', { participantId: 'ann' });
  expect(meeting.snapshot.waiting).toEqual([{ id: 'ben', name: 'Ben' }]);
  // A new session is told anew.
  channel.drop();
  await vi.advanceTimersByTimeAsync(3_000);
  expect(meeting.snapshot).toMatchObject({ status: 'joined', locked: false, waiting: [] });
});

test('whether the meeting is recorded is shown, and told', async () => {
  const { meeting, channel } = await joined();
  const changed = vi.fn();
  meeting.on('recordingChanged', changed);
  expect(meeting.snapshot.isRecorded).toBe(false);
  channel.say('recordingChanged', { recording: true, startsInMs: 1_000 });
  expect(meeting.snapshot.isRecorded).toBe(true);
  channel.say('recordingChanged', { recording: false, reason: 'stopped' });
  expect(meeting.snapshot.isRecorded).toBe(false);
  expect(changed.mock.calls.map(([news]) => news)).toEqual([
    { recording: true, startsInMs: 1_000 },
    { recording: false, reason: 'stopped' },
  ]);
});

test('a broadcast is shown, to who comes later as well', async () => {
  const { meeting, channel } = await joined();
  const changed = vi.fn();
  meeting.on('pushChanged', changed);
  expect(meeting.snapshot.isBroadcast).toBe(false);
  channel.say('pushChanged', { pushed: true, startsInMs: 1_000 });
  expect(meeting.snapshot.isBroadcast).toBe(true);
  channel.say('pushChanged', { pushed: false, reason: 'failed' });
  expect(meeting.snapshot.isBroadcast).toBe(false);
  expect(changed).toHaveBeenLastCalledWith({ pushed: false, reason: 'failed' });
  const late = makeMeeting({ pushed: true });
  await late.join();
  expect(late.snapshot.isBroadcast).toBe(true);
});

test('voices for a program outside are shown, and what it understands', async () => {
  const { meeting, channel } = await joined();
  const [changed, captioned] = [vi.fn(), vi.fn()];
  meeting.on('tapChanged', changed);
  meeting.on('captions', captioned);
  expect(meeting.snapshot).toMatchObject({ isTapped: false, captions: [] });
  channel.say('tapChanged', { tapped: true, startsInMs: 1_000 });
  expect(meeting.snapshot.isTapped).toBe(true);
  const say = (utterance: number, participantId: string, text: string, interim: boolean) =>
    channel.say('caption', { participantId, utterance, text, interim, language: 'en' });
  say(1, 'ann', 'good', true);
  say(2, 'ben', 'hello', false);
  say(1, 'ann', 'good morning', false);
  const shown = meeting.snapshot.captions.map(({ participantId, text }) => [participantId, text]);
  expect(shown).toEqual([
    ['ann', 'good morning'],
    ['ben', 'hello'],
  ]);
  expect(captioned).toHaveBeenCalledTimes(3);
  expect(captioned).toHaveBeenLastCalledWith(meeting.snapshot.captions);
  for (let utterance = 3; utterance < 200; utterance++) say(utterance, 'ann', 'so', false);
  expect(meeting.snapshot.captions).toHaveLength(50);
  channel.say('tapChanged', { tapped: false, reason: 'stopped' });
  expect(meeting.snapshot.isTapped).toBe(false);
  channel.say('tapChanged', { tapped: true, startsInMs: 0 });
  expect(meeting.snapshot.captions).toEqual([]);
  expect(changed).toHaveBeenCalledTimes(3);
});

test('who comes while voices go to a program is told as they enter', async () => {
  const meeting = makeMeeting({ tapped: true });
  await meeting.join();
  expect(meeting.snapshot.isTapped).toBe(true);
});

test('who is muted by a host hears by whom', async () => {
  const { meeting, channel } = await joined();
  const muted = vi.fn();
  meeting.on('mutedByHost', muted);
  await meeting.enable('microphone');
  channel.say('producerMuted', { producerId: 'own-1', muted: true, by: 'ann' });
  expect(muted).toHaveBeenCalledWith({ source: 'microphone', muted: true, by: 'ann' });
  const own = meeting.snapshot.participants[0];
  expect(own?.media.microphone?.paused).toBe(true);
});

test('who waits is let in, however long that takes', async () => {
  const { meeting, joining } = await waiting();
  expect(meeting.snapshot.status).toBe('waiting');
  expect(last().asked[0]).toEqual({ name: 'getRouterCapabilities', data: { displayName: 'Me' } });
  await vi.advanceTimersByTimeAsync(300_000);
  expect(meeting.snapshot.status).toBe('waiting');
  last().say('admitted', { by: 'ann' });
  for (const release of releases.splice(0)) release();
  await joining;
  expect(meeting.snapshot.status).toBe('joined');
});

test('who is not let in is told so and does not try again', async () => {
  const { meeting, joining } = await waiting();
  last().drop(4005, 'not let in by a host');
  expect(await joining).toMatchObject({ code: 'sent-away' });
  expect(meeting.snapshot).toMatchObject({ status: 'failed', error: { code: 'sent-away' } });
  await vi.advanceTimersByTimeAsync(60_000);
  expect(channels).toHaveLength(1);
});

test('who waits may leave', async () => {
  const { meeting } = await waiting();
  meeting.leave();
  expect(last().isClosed).toBe(true);
  expect(meeting.snapshot.status).toBe('left');
});
