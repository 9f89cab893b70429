// @vitest-environment happy-dom
import { act } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { OwnAnnouncer } from '../../src/react/Announcer';
import { MeetingView } from '../../src/react/index';
import { type ChatMessage, Meeting, type MeetingSnapshot } from '../../src/sdk/index';
import { FakeChannel, fakeDevices, makeDevice } from './fake-server';

let root: Root;

beforeEach(() => {
  (globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;
  root = createRoot(document.body.appendChild(document.createElement('div')));
});

afterEach(async () => {
  await act(async () => root.unmount());
  document.body.replaceChildren();
  vi.unstubAllGlobals();
});

const OFF: MeetingSnapshot['devices'] = { camera: 'off', microphone: 'off', screen: 'off' };

let chat: ChatMessage[] = [];

function said(text: string, mine = false): void {
  const id = String(chat.length);
  chat = [...chat, { id, from: 'ann', name: 'Ann', text, sentAt: 0, mine }];
}

const show = (devices: Partial<MeetingSnapshot['devices']>, isChatOpen = false) =>
  act(async () =>
    root.render(
      <OwnAnnouncer snapshot={{ devices: { ...OFF, ...devices }, chat }} isChatOpen={isChatOpen} />,
    ),
  );

const heard = () => document.querySelector('[data-own-news] span');

/** A meeting that was joined, and its view. */
async function shownMeeting(): Promise<Meeting> {
  const meeting = new Meeting({
    ...{ url: 'ws://unused', meetingId: 'm', displayName: 'Me', makeDevice },
    openChannel: async () => new FakeChannel(),
  });
  await meeting.join();
  await act(async () =>
    root.render(<MeetingView meeting={meeting} title="t" onLeave={() => {}} />),
  );
  return meeting;
}

test('one’s own devices and what others write are told to those who do not see them', async () => {
  chat = [];
  said('before');
  await show({});
  expect(heard()?.textContent).toBe('');
  await show({ microphone: 'starting' });
  expect(heard()?.textContent).toBe('');
  await show({ microphone: 'on' });
  expect(heard()?.textContent).toBe('Microphone on');
  await show({ microphone: 'muted' });
  expect(heard()?.textContent).toBe('Microphone off');
  await show({ microphone: 'muted', camera: 'on' });
  expect(heard()?.textContent).toBe('Camera on');
  await show({});
  expect(heard()?.textContent).toBe('Camera off');
  said('hello');
  await show({});
  expect(heard()?.textContent).toBe('Ann: hello');
  const first = heard();
  said('hello');
  await show({});
  // Another element: the same words once more.
  expect([heard()?.textContent, heard() === first]).toEqual(['Ann: hello', false]);
  said('mine', true);
  await show({});
  said('read in the chat');
  await show({}, true);
  await show({}, false);
  expect(heard()?.textContent).toBe('Ann: hello');
});

test('whoever has left sees it where the view stays, opens no device by a key, and can come again', async () => {
  const { mediaDevices, tracks } = fakeDevices();
  vi.stubGlobal('navigator', { ...navigator, mediaDevices });
  const meeting = await shownMeeting();
  await act(async () => meeting.leave());
  expect(document.querySelector('[data-state="left"]')?.textContent).toContain('You left');
  expect(document.querySelector('.oc-controls')).toBeNull();
  await act(async () => {
    document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'm', bubbles: true }));
  });
  expect(tracks).toEqual([]);
  await act(async () => document.querySelector<HTMLElement>('[data-state="left"] button')?.click());
  await vi.waitUntil(() => meeting.snapshot.status === 'joined');
  await act(async () => meeting.leave());
});

test('a device that is starting keeps the focus of whoever has pressed its button', async () => {
  let open: () => void = () => undefined;
  const held = new Promise<void>((resolve) => {
    open = resolve;
  });
  const { mediaDevices } = fakeDevices();
  const getUserMedia = async (constraints: MediaStreamConstraints) => {
    await held;
    return (mediaDevices as MediaDevices).getUserMedia(constraints);
  };
  vi.stubGlobal('navigator', { ...navigator, mediaDevices: { ...mediaDevices, getUserMedia } });
  const meeting = await shownMeeting();
  const button = () =>
    document.querySelector<HTMLButtonElement>('[data-control="microphone"]') as HTMLButtonElement;
  button().focus();
  await act(async () => button().click());
  expect(button().dataset.device).toBe('starting');
  expect([button().disabled, button().getAttribute('aria-disabled')]).toEqual([false, 'true']);
  // Pressed once more it is not switched off when it has just come.
  await act(async () => button().click());
  await act(async () => open());
  await vi.waitUntil(() => meeting.snapshot.devices.microphone === 'on');
  await act(async () => undefined);
  expect([button().dataset.device, document.activeElement === button()]).toEqual(['on', true]);
  await act(async () => meeting.leave());
});
