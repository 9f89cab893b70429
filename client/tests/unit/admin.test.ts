import { describe, expect, test } from 'vitest';
import type { ParticipantReport } from '../../src/admin/api';
import { participantPath } from '../../src/admin/api';
import { growth, History } from '../../src/admin/history';
import { momentOf } from '../../src/admin/story';

describe('the history of a plot', () => {
  test('has a gap where a line had no value, and forgets what is old', () => {
    const history = new History(3);
    history.add(1, new Map([['a', 1]]));
    history.add(
      2,
      new Map([
        ['a', 2],
        ['b', 20],
      ]),
    );
    expect([...history.lines]).toEqual([
      ['a', [1, 2]],
      ['b', [null, 20]],
    ]);
    history.add(3, new Map([['b', 30]]));
    history.add(4, new Map([['b', 40]]));
    history.add(5, new Map([['b', 50]]));
    expect(history.times).toEqual([3, 4, 5]);
    expect([...history.lines]).toEqual([['b', [30, 40, 50]]]);
  });

  test('counters grow, and begin anew with the server', () => {
    const before = { same: 5, more: 10, anew: 100 };
    const rates = growth(before, { same: 5, more: 30, anew: 4, fresh: 2 }, 2);
    expect([...rates]).toEqual([
      ['more', 10],
      ['anew', 2],
      ['fresh', 1],
    ]);
    expect(growth(before, before, 0).size).toBe(0);
  });
});

const report: ParticipantReport = {
  participant: 'ann',
  displayName: 'Ann',
  joined: true,
  hidden: false,
  quality: 'good',
  core: 0,
  muted: [],
  transports: 2,
  producers: [
    { producer: 'p1', kind: 'video', source: 'camera', paused: false, muted: false, consumers: 1 },
  ],
  consumers: 1,
  transportList: [
    { transport: 't1', direction: 'send' },
    { transport: 't2', direction: 'recv' },
  ],
  consumerList: [
    {
      consumer: 'c1',
      producer: 'p9',
      of: 'ben',
      kind: 'video',
      source: 'camera',
      paused: false,
      layers: [2, null],
    },
    {
      consumer: 'c2',
      producer: 'p8',
      of: 'ben',
      kind: 'video',
      source: 'screen_share',
      paused: false,
      layers: null,
    },
  ],
  stats: [
    { type: 'webrtc-transport', transportId: 't1', availableOutgoingBitrate: 1, sendBitrate: 2 },
    {
      type: 'webrtc-transport',
      transportId: 't2',
      availableOutgoingBitrate: 900_000,
      sendBitrate: 500_000,
    },
    { type: 'inbound-rtp', producerId: 'p1', rid: 'r0', bitrate: 100_000, fractionLost: 0 },
    { type: 'inbound-rtp', producerId: 'p1', rid: 'r1', bitrate: 300_000, fractionLost: 128 },
    { type: 'outbound-rtp', consumerId: 'c1', bitrate: 400_000, fractionLost: 64 },
  ],
};

test('a participant’s moment has its estimate, layers and losses', () => {
  const moment = momentOf(report);
  expect(Object.fromEntries(moment.path)).toEqual({ estimate: 900_000, sent: 500_000 });
  expect(Object.fromEntries(moment.sent)).toEqual({ 'camera r0': 100_000, 'camera r1': 300_000 });
  expect(Object.fromEntries(moment.loss)).toEqual({ 'up: camera': 50, 'down: ben: camera': 25 });
  expect(Object.fromEntries(moment.layers)).toEqual({ 'ben: camera': 3, 'ben: screen_share': 0 });
});

test('names are parts of addresses, whatever is in them', () => {
  expect(participantPath('a/b', '?#')).toBe('/v1/rooms/a%2Fb/participants/%3F%23');
});
