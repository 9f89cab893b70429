import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Meeting } from '../../src/sdk/meeting';
import type { ListedParticipant, SourceName, StageSlot } from '../../src/sdk/protocol';
import type { RemoteTrack } from '../../src/sdk/receiver';
import { FakeChannel, fakeDevices, handlers, makeDevice } from './fake-server';
// Else it is loaded in real time, which goes on while that of the tests stands still.
import '../../src/sdk/directory';

let channel: FakeChannel;

beforeEach(() => {
  vi.useFakeTimers();
  handlers.length = 0;
  vi.stubGlobal('navigator', { mediaDevices: fakeDevices().mediaDevices });
  vi.spyOn(console, 'info').mockImplementation(() => undefined);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

/** Until what is gathered was asked. */
const gathered = () => vi.advanceTimersByTimeAsync(100);

const KINDS: Record<string, 'audio' | 'video'> = { a: 'audio', v: 'video' };

/** Somebody, or nobody, on a slot: `a0`, `v1`. */
function slot(name: string, whom?: string, source: SourceName | null = null): StageSlot {
  const kind = KINDS[name[0] ?? ''] ?? 'video';
  const own = source ?? (kind === 'audio' ? 'microphone' : 'camera');
  return {
    slot: Number(name[1]),
    kind,
    producerId: `${kind}-stage-${name[1]}`,
    participantId: whom ?? null,
    displayName: whom ? whom.toUpperCase() : null,
    source: whom ? own : null,
    sourceProducerId: whom ? `${kind}-of-${whom}` : null,
  };
}

function listed(id: string, muted = false): ListedParticipant {
  const producers = (['microphone', 'camera'] as const).map((source) => ({
    producerId: `${source === 'camera' ? 'video' : 'audio'}-of-${id}`,
    kind: source === 'camera' ? ('video' as const) : ('audio' as const),
    source,
    paused: muted && source === 'microphone',
  }));
  return { participantId: id, displayName: id.toUpperCase(), producers };
}

/** In a room with a stage of one voice and two pictures, and these people. `read` is told of each page that was given. */
async function entered(
  people: string[],
  read: (page: readonly ListedParticipant[]) => void = () => undefined,
): Promise<Meeting> {
  channel = new FakeChannel();
  channel.pageRead = read;
  channel.listed = people.map((id) => listed(id));
  const meeting = new Meeting({
    url: 'ws://unused',
    meetingId: 'm',
    participantId: 'me',
    displayName: 'Me',
    makeDevice,
    openChannel: async () => channel,
  });
  await meeting.join();
  beginStage();
  await gathered();
  return meeting;
}

function beginStage() {
  for (const name of ['stage:1', 'stage:2']) {
    channel.say('newParticipant', { participantId: name, displayName: '' });
  }
  for (const name of ['a0', 'v0', 'v1']) {
    const { kind, producerId, slot: number } = slot(name);
    const participantId = `stage:${number + 1}`;
    const appData = { stage: true, slot: number };
    channel.say('newProducer', { participantId, producerId, kind, appData });
  }
  channel.say('stageChanged', { slots: [slot('a0'), slot('v0'), slot('v1')] });
}

const on = (...slots: StageSlot[]) => channel.say('stageChanged', { slots });
const find = (meeting: Meeting, id: string) =>
  meeting.snapshot.participants.find((participant) => participant.id === id);
const camera = (meeting: Meeting, id: string) => find(meeting, id)?.media.camera;
const names = (meeting: Meeting) => meeting.snapshot.participants.map(({ id }) => id);
const asked = (name: string) => channel.asked.filter((request) => request.name === name);

test('slots are nobody: whoever is on one is shown with its track, by their name, at once', async () => {
  const meeting = await entered([]);
  expect(names(meeting)).toEqual(['me']);
  expect(asked('consume')).toHaveLength(3);
  const told: RemoteTrack[] = [];
  meeting.on('trackAdded', (track) => told.push(track));
  on(slot('v0', 'ann'), slot('a0', 'ben'));
  expect(names(meeting)).toEqual(['me', 'ann', 'ben']);
  expect(find(meeting, 'ann')?.displayName).toBe('ANN');
  const track = camera(meeting, 'ann')?.track;
  expect(track?.kind).toBe('video');
  expect(find(meeting, 'ben')?.media.microphone).toMatchObject({ paused: false });
  expect(meeting.snapshot.stage).toEqual([
    { participantId: 'ann', source: 'camera' },
    { participantId: 'ben', source: 'microphone' },
  ]);
  on(slot('v0', 'cleo'));
  expect(camera(meeting, 'cleo')?.track).toBe(track);
  expect(camera(meeting, 'ann')).toBeUndefined();
  expect(told.map(({ participantId, source }) => `${participantId} ${source}`)).toEqual([
    'ann camera',
    'ben microphone',
    'cleo camera',
  ]);
  // Nothing was asked of the server for it.
  expect(asked('consume')).toHaveLength(3);
});

test('screens have slots, too', async () => {
  const meeting = await entered(['ann']);
  on(slot('v0', 'ann'), slot('v1', 'ann', 'screen_share'));
  const { media } = find(meeting, 'ann') ?? {};
  expect(media?.screen?.track).not.toBe(media?.camera?.track);
  on(slot('v1'));
  expect(find(meeting, 'ann')?.media.screen).toBeUndefined();
});

test('one’s own slot is not oneself', async () => {
  const meeting = await entered(['ann']);
  on(slot('v0', 'me'), slot('v1', 'ann'));
  expect(find(meeting, 'me')?.media).toEqual({});
  expect(meeting.snapshot.stage.map(({ participantId }) => participantId)).toEqual(['me', 'ann']);
});

test('everyone is listed, also if the last of a page leaves while the next is asked for', async () => {
  const people = Array.from({ length: 250 }, (_, index) => `p${index}`);
  const leave = (id: string) => {
    channel.listed = channel.listed.filter(({ participantId }) => participantId !== id);
    // Said after the answer.
    setTimeout(() => channel.say('participantLeft', { participantId: id }));
  };
  // Two pages end with somebody who leaves.
  const leaving = ['p99', 'p200'];
  const meeting = await entered(people, (page) => {
    const id = page.at(-1)?.participantId;
    if (id && leaving.includes(id)) leave(id);
  });
  await gathered();
  expect(names(meeting).sort()).toEqual(
    ['me', ...people.filter((id) => !leaving.includes(id))].sort(),
  );
  expect(asked('getParticipants').map(({ data }) => data.after)).toEqual([
    ...[undefined, 'p99'],
    ...[undefined, 'p100', 'p200'],
    ...[undefined, 'p100', 'p201'],
  ]);
});

test('a list that is always refused is given up', async () => {
  const people = Array.from({ length: 250 }, (_, index) => `p${index}`);
  const meeting = await entered(people, (page) => {
    const id = page.at(-1)?.participantId;
    channel.listed = channel.listed.filter(({ participantId }) => participantId !== id);
  });
  await vi.advanceTimersByTimeAsync(60_000);
  expect(asked('getParticipants').filter(({ data }) => !data.participantIds)).toHaveLength(50);
  expect(names(meeting).length).toBeGreaterThan(100);
});

test('everyone is listed, a page after the other, and received only where asked for', async () => {
  const people = Array.from({ length: 250 }, (_, index) => `p${index}`);
  const meeting = await entered(people);
  await gathered();
  expect(names(meeting)).toEqual(['me', ...people]);
  expect(asked('getParticipants').map(({ data }) => data.after)).toEqual([
    undefined,
    'p99',
    'p199',
  ]);
  expect(camera(meeting, 'p120')).toMatchObject({ track: null, paused: false });
  expect(asked('consume')).toHaveLength(3);
  void meeting.setReceiving('p120', 'camera', true);
  await gathered();
  expect(camera(meeting, 'p120')?.track?.kind).toBe('video');
  expect(asked('consume')).toHaveLength(4);
  void meeting.setReceiving('p120', 'camera', false);
  await gathered();
  expect(asked('closeConsumer').map(({ data }) => data.consumerId)).toEqual(['c-video-of-p120']);
  expect(camera(meeting, 'p120')).toMatchObject({ track: null });
});

test('whoever comes on stage while they are received keeps their stream, and is received once', async () => {
  const meeting = await entered(['ann', 'ben']);
  await meeting.setReceiving('ann', 'camera', true);
  await gathered();
  const own = camera(meeting, 'ann');
  expect(own?.producerId).toBe('video-of-ann');
  on(slot('v0', 'ann'));
  await gathered();
  expect(camera(meeting, 'ann')).toEqual(own);
  expect(asked('pauseConsumer').map(({ data }) => data.consumerId)).toEqual(['c-video-stage-0']);
  // Another on that slot is wanted again.
  on(slot('v0', 'ben'));
  await gathered();
  expect(asked('resumeConsumer').at(-1)?.data.consumerId).toBe('c-video-stage-0');
  expect(camera(meeting, 'ben')?.producerId).toBe('video-stage-0');
  // Who is on stage when it is left is seen by it.
  on(slot('v1', 'ann'));
  await gathered();
  await meeting.setReceiving('ann', 'camera', false);
  await gathered();
  await meeting.setReceiving('ann', 'camera', true);
  await gathered();
  expect(camera(meeting, 'ann')?.producerId).toBe('video-stage-1');
});

test('who is asked for while on stage is received by it, and besides once they are not', async () => {
  const meeting = await entered(['ann', 'ben']);
  on(slot('v0', 'ann'));
  await meeting.setReceiving('ann', 'camera', true);
  await gathered();
  expect(asked('consume')).toHaveLength(3);
  on(slot('v0', 'ben'));
  await gathered();
  expect(camera(meeting, 'ann')).toMatchObject({ producerId: 'video-of-ann' });
  expect(camera(meeting, 'ann')?.track?.kind).toBe('video');
});

test('a steady one has a stream of its own from the start', async () => {
  const meeting = await entered(['ann', 'ben']);
  on(slot('v0', 'ann'));
  await meeting.setReceiving('ann', 'camera', true, { steady: true });
  await gathered();
  const own = camera(meeting, 'ann');
  expect(own?.producerId).toBe('video-of-ann');
  on(slot('v0', 'ben'));
  await gathered();
  expect(camera(meeting, 'ann')).toEqual(own);
});

/** What is received from now on is muted, as in browsers, until its first packet comes. */
function muteArrivals(): MediaStreamTrack[] {
  const arrivals: MediaStreamTrack[] = [];
  for (const handler of handlers) {
    const receive = handler.receive.bind(handler);
    handler.receive = async (list) => {
      const results = await receive(list);
      for (const { track } of results) {
        Object.defineProperty(track, 'muted', { value: true });
        arrivals.push(track);
      }
      return results;
    };
  }
  return arrivals;
}

test('a steady one is shown from the stage until a packet of their own stream has come', async () => {
  const meeting = await entered(['ann', 'ben']);
  on(slot('v0', 'ann'));
  const onStage = camera(meeting, 'ann');
  const arrivals = muteArrivals();
  await meeting.setReceiving('ann', 'camera', true, { steady: true });
  await gathered();
  expect(arrivals).toHaveLength(1);
  expect(camera(meeting, 'ann')).toEqual(onStage);
  // It is not put aside meanwhile, or it would be black.
  expect(asked('pauseConsumer')).toHaveLength(0);
  arrivals[0]?.dispatchEvent(new Event('unmute'));
  await gathered();
  await gathered();
  expect(camera(meeting, 'ann')?.track).toBe(arrivals[0]);
  expect(asked('pauseConsumer')).toHaveLength(1);
});

test('who leaves the stage before a packet of their own stream has come is shown by that', async () => {
  const meeting = await entered(['ann', 'ben']);
  on(slot('v0', 'ann'));
  const arrivals = muteArrivals();
  await meeting.setReceiving('ann', 'camera', true, { steady: true });
  await gathered();
  on(slot('v0', 'ben'));
  expect(camera(meeting, 'ann')?.track).toBe(arrivals[0]);
});

test('what people off stage start and stop is asked for while they are looked at', async () => {
  const meeting = await entered(['ann']);
  channel.listed = [{ participantId: 'ann', displayName: 'Anna', producers: [] }];
  const questions = () => asked('getParticipants').filter(({ data }) => data.participantIds);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(questions()).toHaveLength(0);
  await meeting.setReceiving('ann', 'camera', true);
  await vi.advanceTimersByTimeAsync(6_000);
  const before = questions().length;
  expect(questions().at(-1)?.data.participantIds).toEqual(['ann']);
  channel.listed = [listed('ann', true)];
  await vi.advanceTimersByTimeAsync(6_000);
  expect(questions().length).toBe(before + 1);
  expect(find(meeting, 'ann')?.media.microphone?.paused).toBe(true);
  expect(camera(meeting, 'ann')?.track?.kind).toBe('video');
  await meeting.setReceiving('ann', 'camera', false);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(questions().length).toBe(before + 1);
});

test('whose stream ends while they are looked at is asked for again at once', async () => {
  const meeting = await entered(['ann']);
  await meeting.setReceiving('ann', 'camera', true);
  await gathered();
  channel.listed = [listed('ann')];
  for (const producer of channel.listed[0]?.producers ?? []) producer.producerId += '-2';
  channel.say('consumerClosed', { consumerId: 'c-video-of-ann' });
  expect(camera(meeting, 'ann')).toBeUndefined();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(camera(meeting, 'ann')).toMatchObject({ producerId: 'video-of-ann-2' });
  expect(camera(meeting, 'ann')?.track?.kind).toBe('video');
});

test('who stops on stage is muted, who is replaced is not', async () => {
  const meeting = await entered(['ann', 'ben']);
  on(slot('a0', 'ann'));
  on(slot('a0', 'ben'));
  expect(find(meeting, 'ann')?.media.microphone).toMatchObject({ track: null, paused: false });
  on(slot('a0'));
  expect(find(meeting, 'ben')?.media.microphone).toMatchObject({ track: null, paused: true });
});

test('a slot stays when who is on it leaves', async () => {
  const meeting = await entered([]);
  on(slot('v0', 'ann'));
  const track = camera(meeting, 'ann')?.track;
  channel.say('participantLeft', { participantId: 'ann' });
  expect(names(meeting)).toEqual(['me']);
  on(slot('v0', 'ben'));
  expect(track).toBeDefined();
  expect(camera(meeting, 'ben')?.track).toBe(track);
});

test('when the stage ends everyone is offered, and nobody is there twice or stands still', async () => {
  const meeting = await entered(['ann', 'ben', 'cleo']);
  on(slot('v0', 'ann'), slot('v1', 'ben'), slot('a0', 'ann'));
  await meeting.setReceiving('cleo', 'camera', true);
  await gathered();
  const cleos = camera(meeting, 'cleo');
  for (const name of ['a0', 'v0', 'v1']) {
    channel.say('consumerClosed', { consumerId: `c-${slot(name).producerId}` });
    channel.say('producerClosed', { producerId: slot(name).producerId });
  }
  channel.say('participantLeft', { participantId: 'stage:1' });
  expect(meeting.snapshot.stage).toEqual([]);
  expect(camera(meeting, 'ann')).toBeUndefined();
  expect(camera(meeting, 'cleo')).toEqual(cleos);
  for (const id of ['ann', 'ben', 'cleo']) {
    for (const { producerId, kind } of listed(id).producers) {
      if (producerId === 'video-of-cleo') continue;
      channel.say('newProducer', { participantId: id, producerId, kind });
    }
  }
  await gathered();
  expect(names(meeting)).toEqual(['me', 'ann', 'ben', 'cleo']);
  for (const id of ['ann', 'ben', 'cleo']) {
    expect(camera(meeting, id)).toMatchObject({ producerId: `video-of-${id}` });
    expect(camera(meeting, id)?.track?.kind).toBe('video');
  }
  channel.say('producerClosed', { producerId: 'video-of-cleo' });
  expect(camera(meeting, 'cleo')).toBeUndefined();
  const questions = asked('getParticipants').length;
  await vi.advanceTimersByTimeAsync(20_000);
  expect(asked('getParticipants')).toHaveLength(questions);
  // And it begins anew.
  for (const id of ['ann', 'ben', 'cleo']) {
    for (const { producerId } of listed(id).producers) {
      channel.say('producerClosed', { producerId });
    }
  }
  beginStage();
  on(slot('v0', 'ben'));
  await gathered();
  expect(camera(meeting, 'ben')).toMatchObject({ producerId: 'video-stage-0' });
  expect(camera(meeting, 'ann')).toMatchObject({ track: null });
});

test('what is encrypted is never taken from a list', async () => {
  const meeting = await entered([]);
  const sealed = listed('ann');
  for (const producer of sealed.producers) producer.encrypted = true;
  channel.listed = [sealed];
  await meeting.setReceiving('ann', 'camera', true);
  await vi.advanceTimersByTimeAsync(6_000);
  expect(find(meeting, 'ann')).toBeDefined();
  expect(asked('consume')).toHaveLength(3);
});
