// @vitest-environment happy-dom
import { FakeMediaStreamTrack } from 'fake-mediastreamtrack';
import { act } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type Lobby, usePreview } from '../../src/page/preview';

let root: Root;
let plugged: string[];
let opened: FakeMediaStreamTrack[];
let shown: Lobby;
const listeners = new Set<() => void>();

beforeEach(() => {
  (globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;
  root = createRoot(document.body.appendChild(document.createElement('div')));
  plugged = ['cam-1', 'cam-2'];
  opened = [];
  listeners.clear();
  const getUserMedia = async () => {
    const [deviceId] = plugged;
    if (!deviceId) throw new DOMException('none', 'NotFoundError');
    const track = new FakeMediaStreamTrack({ kind: 'video', label: deviceId });
    track.getSettings = () => ({ deviceId });
    opened.push(track);
    return { getTracks: () => [track] };
  };
  vi.stubGlobal('navigator', {
    mediaDevices: {
      getUserMedia,
      addEventListener: (_: string, listener: () => void) => listeners.add(listener),
      removeEventListener: (_: string, listener: () => void) => listeners.delete(listener),
    },
  });
});

afterEach(async () => {
  await act(async () => root.unmount());
  vi.unstubAllGlobals();
});

function Preview() {
  const off = { isOn: false, deviceId: undefined };
  shown = usePreview({ isOn: true, deviceId: undefined }, off, {});
  return null;
}

const show = () => act(async () => root.render(<Preview />));

async function unplug(deviceId: string) {
  plugged = plugged.filter((one) => one !== deviceId);
  await act(async () => {
    for (const track of opened) if (track.label === deviceId) track.remoteStop();
    for (const listener of [...listeners]) listener();
  });
}

test('a camera that is unplugged in the lobby gives way to another, or to the words that there is none', async () => {
  await show();
  expect(shown.tracks.camera?.label).toBe('cam-1');
  await unplug('cam-1');
  expect(shown.tracks.camera?.label).toBe('cam-2');
  expect(shown.states.camera).toBe('on');
  await unplug('cam-2');
  expect(shown.tracks.camera).toBeUndefined();
  expect(shown.states.camera).toBe('missing');
  plugged = ['cam-3'];
  await act(async () => {
    for (const listener of [...listeners]) listener();
  });
  expect(shown.tracks.camera?.label).toBe('cam-3');
  // What works is not asked about.
  expect(listeners.size).toBe(0);
  expect((await shown.take()).camera?.label).toBe('cam-3');
});
