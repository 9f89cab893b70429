// @vitest-environment happy-dom
import { act } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { copyText } from '../../src/react/copyText';
import {
  MediasoupContext,
  type MeetingHandle,
  MeetingView,
  useMediasoup,
  useMeeting,
} from '../../src/react/index';
import { hueOf } from '../../src/react/layout';
import { Meeting, type MeetingOptions } from '../../src/sdk/index';
import { FakeChannel, fakeDevices, makeDevice } from './fake-server';

// Called once by each tile that is drawn.
vi.mock('../../src/react/layout', async (load) => {
  const original = await load<typeof import('../../src/react/layout')>();
  return { ...original, hueOf: vi.fn(original.hueOf) };
});

let root: Root;
let channels: FakeChannel[];

beforeEach(() => {
  (globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;
  root = createRoot(document.body.appendChild(document.createElement('div')));
  channels = [];
});

afterEach(async () => {
  await act(async () => root.unmount());
  vi.restoreAllMocks();
});

const options = (): MeetingOptions => ({
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
});

/** As much of a stream as is needed to hold tracks. */
class TrackList {
  readonly #tracks: Set<MediaStreamTrack>;
  constructor(tracks: readonly MediaStreamTrack[] = []) {
    this.#tracks = new Set(tracks);
  }
  addTrack = (track: MediaStreamTrack) => void this.#tracks.add(track);
  removeTrack = (track: MediaStreamTrack) => void this.#tracks.delete(track);
  getTracks = () => [...this.#tracks];
}

test('when someone speaks, no more than three tiles are drawn anew', async () => {
  const meeting = new Meeting(options());
  await meeting.join();
  await act(async () =>
    root.render(<MeetingView meeting={meeting} title="t" onLeave={() => {}} />),
  );
  await act(async () => {
    for (let index = 0; index < 15; index += 1) {
      channels[0]?.say('newParticipant', { participantId: `p${index}`, displayName: `P${index}` });
    }
  });
  expect(document.querySelectorAll('.oc-tile')).toHaveLength(16);
  await act(async () => channels[0]?.say('activeSpeakers', ['p1']));
  vi.mocked(hueOf).mockClear();
  await act(async () => channels[0]?.say('activeSpeakers', ['p2']));
  const speaking = [...document.querySelectorAll('[data-speaking="true"]')];
  expect(speaking.map((tile) => tile.getAttribute('data-peer-id'))).toEqual(['p2']);
  const drawn = new Set(vi.mocked(hueOf).mock.calls.map(([id]) => id));
  expect(drawn).toEqual(new Set(['p1', 'p2']));
  expect(vi.mocked(hueOf).mock.calls.length).toBeLessThanOrEqual(3);
  await act(async () => meeting.leave());
});

test('of a hundred people a page is shown, whoever speaks among them; keys lead to the others', async () => {
  const meeting = new Meeting(options());
  await meeting.join();
  await act(async () =>
    root.render(<MeetingView meeting={meeting} title="t" onLeave={() => {}} />),
  );
  await act(async () => {
    for (let index = 0; index < 99; index += 1) {
      channels[0]?.say('newParticipant', { participantId: `p${index}`, displayName: `P${index}` });
    }
  });
  const shown = () =>
    [...document.querySelectorAll('.oc-tile')].map((tile) => tile.getAttribute('data-peer-id'));
  const first = shown();
  expect(first).toHaveLength(21);
  await act(async () => channels[0]?.say('activeSpeakers', ['p80']));
  const second = shown();
  expect(second.filter((id, index) => id !== first[index])).toEqual(['p80']);

  const press = (key: string) =>
    act(async () => {
      document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    });
  const seen = new Set(second);
  for (let page = 1; page < 5; page += 1) {
    await press('ArrowRight');
    for (const id of shown()) seen.add(id);
  }
  expect(seen.size).toBe(100);
  // There is no page behind the last one, and when people leave, the last one is another.
  await press('ArrowRight');
  expect(shown()).toHaveLength(16);
  await act(async () => {
    for (let index = 30; index < 99; index += 1) {
      channels[0]?.say('participantLeft', { participantId: `p${index}` });
    }
  });
  expect(shown()).toHaveLength(10);
  await act(async () => meeting.leave());
});

test('another name is a rename, another meeting another meeting', async () => {
  const handles: MeetingHandle[] = [];
  const Room = (wanted: Partial<MeetingOptions>) => {
    handles.push(useMeeting({ ...options(), ...wanted }));
    return null;
  };
  await act(async () => root.render(<Room />));
  await act(async () => root.render(<Room displayName="Myself" />));
  expect(channels).toHaveLength(1);
  expect(channels[0]?.names()).toContain('changeDisplayName');
  expect(handles.at(-1)?.snapshot).toMatchObject({
    status: 'joined',
    participants: [{ displayName: 'Myself' }],
  });
  await act(async () => root.render(<Room displayName="Myself" meetingId="n" />));
  expect(channels).toHaveLength(2);
  expect(channels[0]?.isClosed).toBe(true);
});

test('a device that is wanted no more, or again, opens no microphone that is muted', async () => {
  const { mediaDevices, tracks } = fakeDevices();
  vi.stubGlobal('navigator', { ...navigator, mediaDevices });
  vi.stubGlobal('MediaStream', TrackList);
  const meetings = vi.spyOn(Meeting.prototype, 'join');
  const { openChannel } = options() as Required<MeetingOptions>;
  const Room = (wanted: { enableVideo: boolean; enableAudio?: boolean }) => {
    useMediasoup({ meetingId: 'm', participantId: 'me', ...wanted });
    return null;
  };
  const show = (enableVideo: boolean, enableAudio = true) =>
    act(async () => {
      root.render(
        <MediasoupContext value={{ url: 'ws://unused', makeDevice, openChannel }}>
          <Room enableVideo={enableVideo} enableAudio={enableAudio} />
        </MediasoupContext>,
      );
    });
  await show(true);
  const meeting = meetings.mock.contexts[0] as Meeting;
  await vi.waitUntil(() => meeting.snapshot.devices.microphone === 'on');
  await act(() => meeting.mute());
  const devices = () => [meeting.snapshot.devices.camera, meeting.snapshot.devices.microphone];
  await show(false);
  expect(devices()).toEqual(['on', 'muted']);
  await show(true);
  expect(devices()).toEqual(['on', 'muted']);
  // What was switched off meanwhile is started when it is wanted anew, and not when the other is.
  await act(() => meeting.disable('camera'));
  await show(true, false);
  await show(true, true);
  expect(devices()).toEqual(['off', 'muted']);
  await show(false);
  await show(true);
  await vi.waitUntil(() => meeting.snapshot.devices.camera === 'on');
  expect(devices()).toEqual(['on', 'muted']);
  expect(tracks.filter(({ readyState }) => readyState === 'live')).toHaveLength(2);
  vi.unstubAllGlobals();
});

test('a click plays the voices of this meeting, and those that are not allowed ask for another', async () => {
  vi.stubGlobal('MediaStream', TrackList);
  const streams = new WeakMap<HTMLMediaElement, TrackList>();
  vi.spyOn(HTMLMediaElement.prototype, 'srcObject', 'set').mockImplementation(function (
    this: HTMLMediaElement,
    stream: unknown,
  ) {
    if (stream instanceof TrackList) streams.set(this, stream);
  });
  const played: string[] = [];
  const outcomes = new Map<string, 'NotAllowedError' | 'AbortError' | 'pending'>();
  vi.spyOn(HTMLMediaElement.prototype, 'play').mockImplementation(async function (
    this: HTMLMediaElement,
  ) {
    const name = this.id || String(streams.get(this)?.getTracks()[0]?.id);
    played.push(name);
    const outcome = outcomes.get(name) ?? outcomes.get('all');
    if (outcome === 'pending') return new Promise(() => undefined);
    if (outcome) throw new DOMException('no', outcome);
  });
  const stranger = document.body.appendChild(document.createElement('audio'));
  stranger.id = 'stranger';
  const meeting = new Meeting(options());
  await meeting.join();
  outcomes.set('all', 'NotAllowedError');
  await act(async () =>
    root.render(<MeetingView meeting={meeting} title="t" onLeave={() => {}} />),
  );
  await act(async () => {
    for (const id of ['ann', 'ben', 'cid']) {
      const producerId = `audio-${id}`;
      channels[0]?.say('newProducer', { participantId: id, producerId, kind: 'audio' });
    }
  });
  const button = () => document.querySelector<HTMLButtonElement>('.oc-unblock');
  const voices = () => [...new Set(played.splice(0))];
  await vi.waitUntil(() => new Set(played).size === 3);
  const ids = voices();
  await vi.waitUntil(() => button());
  await act(async () => button()?.click());
  // They are all tried, and the browser still says no.
  expect(voices()).toEqual(ids);
  expect(button()).not.toBeNull();
  // One that has ended meanwhile, or from which nothing comes, is no reason to ask once more.
  outcomes.clear();
  outcomes.set(ids[0] ?? '', 'AbortError');
  outcomes.set(ids[1] ?? '', 'pending');
  await act(async () => button()?.click());
  expect(voices()).toEqual(ids);
  expect(button()).toBeNull();
  stranger.remove();
  await act(async () => meeting.leave());
  vi.unstubAllGlobals();
});

test('a link is copied on pages without https too', async () => {
  vi.stubGlobal('navigator', { clipboard: undefined });
  const copied: string[] = [];
  document.execCommand = () => {
    copied.push((document.querySelector('textarea') as HTMLTextAreaElement).value);
    return true;
  };
  expect(await copyText('http://x/?room=a')).toBe(true);
  expect(copied).toEqual(['http://x/?room=a']);
  expect(document.querySelector('textarea')).toBeNull();
  vi.unstubAllGlobals();
});
