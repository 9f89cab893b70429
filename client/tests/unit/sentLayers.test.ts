import type { types } from 'mediasoup-client';
import { expect, test, vi } from 'vitest';
import { SentLayers } from '../../src/sdk/sentLayers';

/** A track with so many layers; a change of them is made when the test says so. */
function track(layers: number, kind: types.MediaKind = 'video') {
  const waiting: (() => void)[] = [];
  const made: number[] = [];
  const producer = {
    id: 'p',
    kind,
    closed: false,
    maxSpatialLayer: undefined as number | undefined,
    rtpParameters: { encodings: Array.from({ length: layers }, () => ({})) },
    setMaxSpatialLayer: (layer: number) =>
      new Promise<void>((done) => {
        waiting.push(() => {
          producer.maxSpatialLayer = layer;
          made.push(layer);
          done();
        });
      }),
  };
  const settle = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      next();
      await new Promise((resolve) => setTimeout(resolve));
    }
  };
  return { producer: producer as unknown as types.Producer, made, settle };
}

test('follows the server, down and up', async () => {
  const { producer, made, settle } = track(3);
  const layers = new SentLayers();
  for (const layer of [0, 0, 1, 2]) {
    layers.limit('p', layer, producer);
    await settle();
  }
  expect(made).toEqual([0, 1, 2]);
});

test('of words that come while a change is made, the last counts', async () => {
  const { producer, made, settle } = track(3);
  const layers = new SentLayers();
  for (const layer of [0, 1, 2]) layers.limit('p', layer, producer);
  await settle();
  expect(made).toEqual([0, 2]);
});

test('remembers what was said before the track was known', async () => {
  const { producer, made, settle } = track(3);
  const layers = new SentLayers();
  layers.limit('p', 1, undefined);
  void layers.apply(producer);
  await settle();
  expect(made).toEqual([1]);
  layers.forget('p');
});

test('does not listen to what is no layer, and knows how many there are', async () => {
  const { producer, made, settle } = track(3);
  const layers = new SentLayers();
  for (const layer of [-1, 0.5, Number.NaN, 99, '1', null]) {
    layers.limit('p', layer as number, producer);
    await settle();
  }
  expect(made).toEqual([]);
});

test('says so when the browser has refused, and listens on', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
  const { producer, made, settle } = track(3);
  const encodings = [{ active: true }, { active: true }, { active: true }];
  Object.assign(producer, { rtpSender: { getParameters: () => ({ encodings }) } });
  const layers = new SentLayers();
  layers.limit('p', 0, producer);
  await settle();
  expect(warn).toHaveBeenCalledOnce();
  layers.limit('p', 2, producer);
  await settle();
  expect(made).toEqual([0, 2]);
  expect(warn).toHaveBeenCalledOnce();
  warn.mockRestore();
});

test('leaves single streams and voices alone', async () => {
  for (const { producer, made, settle } of [track(1), track(3, 'audio')]) {
    new SentLayers().limit('p', 0, producer);
    await settle();
    expect(made).toEqual([]);
  }
});
