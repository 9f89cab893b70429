// @vitest-environment happy-dom
import { act } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { copyText } from '../../src/react/copyText';
import { type MeetingHandle, MeetingView, useMeeting } from '../../src/react/index';
import { hueOf } from '../../src/react/layout';
import { Meeting, type MeetingOptions } from '../../src/sdk/index';
import { FakeChannel, makeDevice } from './fake-server';

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
