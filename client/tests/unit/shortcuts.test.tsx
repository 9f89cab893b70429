// @vitest-environment happy-dom
import { act } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { MeetingView } from '../../src/react/index';
import { Meeting } from '../../src/sdk/index';
import { FakeChannel, makeDevice } from './fake-server';

/** One view, mounted apart from the others as in a page of several applications. */
interface Shown {
  container: HTMLElement;
  root: Root;
  meeting: Meeting;
}

const shown: Shown[] = [];

beforeEach(() => {
  (globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;
});

afterEach(async () => {
  for (const { root, meeting, container } of shown.splice(0)) {
    await act(async () => {
      root.unmount();
      meeting.leave();
    });
    container.remove();
  }
  document.body.replaceChildren();
});

async function show(participantId: string, parent: HTMLElement = document.body): Promise<Shown> {
  const container = parent.appendChild(document.createElement('div'));
  const meeting = new Meeting({
    url: 'ws://unused',
    meetingId: 'm',
    participantId,
    displayName: participantId,
    makeDevice,
    openChannel: async () => new FakeChannel(),
  });
  await meeting.join();
  const root = createRoot(container);
  await act(async () =>
    root.render(<MeetingView meeting={meeting} title="t" onLeave={() => {}} />),
  );
  const view = { container, root, meeting };
  shown.push(view);
  return view;
}

/** Whether the page may still do with the key what it does by itself. */
async function press(target: EventTarget, key: string): Promise<boolean> {
  const event = new KeyboardEvent('keydown', {
    ...{ key, bubbles: true, composed: true, cancelable: true },
  });
  await act(async () => void target.dispatchEvent(event));
  return !event.defaultPrevented;
}

const sheetOf = ({ container }: Shown) => container.querySelector('[data-sheet]');
const isOpen = (view: Shown) => sheetOf(view)?.getAttribute('data-sheet') === 'people';

const touch = (element: Element | null | undefined) =>
  act(async () => void element?.dispatchEvent(new Event('pointerdown', { bubbles: true })));

function add<Tag extends keyof HTMLElementTagNameMap>(tag: Tag, parent: Node = document.body) {
  return parent.appendChild(document.createElement(tag));
}

test('keys of the application around a view are its own', async () => {
  const view = await show('me');
  const slider = add('div');
  slider.tabIndex = 0;
  const note = add('div');
  note.attachShadow({ mode: 'open' });
  const field = add('input', note.shadowRoot as ShadowRoot);
  for (const target of [add('input'), add('textarea'), add('button'), slider, note, field]) {
    for (const key of ['p', ' ', 'ArrowRight', 'Escape']) {
      expect(await press(target, key)).toBe(true);
      expect(isOpen(view)).toBe(false);
    }
  }
});

test('a view that has the page for itself has its keys, before anything is touched', async () => {
  const view = await show('me');
  expect(await press(document.body, 'p')).toBe(false);
  expect(isOpen(view)).toBe(true);
  expect(await press(sheetOf(view) as Element, 'p')).toBe(false);
  expect(isOpen(view)).toBe(false);
});

test('where nothing has the focus, keys are for what was used last', async () => {
  const frame = add('div');
  const view = await show('me', frame);
  const host = add('article');
  await touch(host);
  expect(await press(document.body, 'p')).toBe(true);
  expect(isOpen(view)).toBe(false);
  await touch(view.container.querySelector('.oc-stage'));
  // An application may give the focus to a frame around the view.
  expect(await press(frame, 'p')).toBe(false);
  expect(isOpen(view)).toBe(true);
});

test('of two views each key is for one', async () => {
  const [one, two] = [await show('one'), await show('two')];
  await press(document.body, 'p');
  expect([one, two].map(isOpen)).toEqual([true, false]);
  await touch(two.container.querySelector('.oc-stage'));
  await press(document.body, 'p');
  expect([one, two].map(isOpen)).toEqual([true, true]);
  await press(sheetOf(one) as Element, 'p');
  expect([one, two].map(isOpen)).toEqual([false, true]);
});

test('of two views each button opens a panel of its own, although React names them alike', async () => {
  for (const { container } of [await show('one'), await show('two')]) {
    const panels = [...container.querySelectorAll('[popover]')];
    expect(panels.length).toBeGreaterThan(1);
    for (const panel of panels) {
      const button = panel.previousElementSibling as HTMLButtonElement;
      expect(button.getAttribute('aria-label')).toBe(panel.getAttribute('aria-label'));
      expect(button.popoverTargetElement === panel).toBe(true);
    }
  }
  const ids = [...document.querySelectorAll('[id]')].map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
});

test('the space bar is let go wherever the focus is by then, and with the view', async () => {
  const view = await show('me');
  const heard: string[] = [];
  const { meeting } = view;
  const status = { ...meeting.snapshot.devices, microphone: 'muted' as const };
  Object.defineProperty(meeting, 'snapshot', { value: { ...meeting.snapshot, devices: status } });
  meeting.unmute = async () => void heard.push('open');
  meeting.mute = async () => void heard.push('muted');
  const field = add('input');
  field.addEventListener('keyup', (event) => event.stopPropagation());
  await press(document.body, ' ');
  const up = new KeyboardEvent('keyup', { key: ' ', bubbles: true });
  await act(async () => void field.dispatchEvent(up));
  expect(heard).toEqual(['open', 'muted']);
  await press(document.body, ' ');
  await act(async () => view.root.unmount());
  expect(heard).toEqual(['open', 'muted', 'open', 'muted']);
});
