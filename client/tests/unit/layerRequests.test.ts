import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { LayerRequests } from '../../src/sdk/layerRequests';

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(console, 'info').mockImplementation(() => undefined);
});

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

test('layers that the server refused are asked for again when they are wanted again', async () => {
  const ask = vi.fn(async () => undefined as unknown);
  const requests = new LayerRequests(ask);
  const low = { spatialLayer: 0, temporalLayer: 2 };
  ask.mockRejectedValueOnce(new Error('not now'));
  await expect(requests.want('c', low)).rejects.toThrow('not now');
  ask.mockRejectedValueOnce(new Error('not now either'));
  for (let times = 2; times <= 3; times += 1) {
    await requests.want('c', low);
    await vi.advanceTimersByTimeAsync(200);
    expect(ask).toHaveBeenCalledTimes(times);
  }
  // What was not refused is asked for once.
  await requests.want('c', low);
  await vi.advanceTimersByTimeAsync(200);
  expect(ask).toHaveBeenCalledTimes(3);
});
