import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Meeting, type MeetingOptions } from '../../src/sdk/meeting';
import type { CodecAdvice } from '../../src/sdk/protocol';
import { FakeChannel, fakeDevices, makeDevice } from './fake-server';

let channel: FakeChannel;

beforeEach(() => {
  vi.useFakeTimers();
  channel = new FakeChannel();
  vi.stubGlobal('navigator', { mediaDevices: fakeDevices().mediaDevices, userAgent: 'x' });
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function advice(mimeType: string, mode: 'simulcast' | 'svc' = 'simulcast'): CodecAdvice {
  return {
    audio: { dtx: true, fec: false, stereo: false, maxBitrate: 24_000 },
    video: {
      mimeType,
      mode,
      scalabilityMode: mode === 'svc' ? 'L2T3_KEY' : 'L1T3',
      profile: '360p20',
      minBitrate: 150_000,
      maxBitrate: 500_000,
      maxScreenBitrate: 500_000,
    },
    reason: 'because',
  };
}

async function joined(
  first: CodecAdvice | undefined,
  options: Partial<MeetingOptions> = {},
): Promise<Meeting> {
  if (first) channel.entrance = { codecAdvice: first };
  const meeting = new Meeting({
    url: 'ws://unused',
    meetingId: 'm',
    participantId: 'me',
    displayName: 'Me',
    makeDevice,
    openChannel: async () => channel,
    ...options,
  });
  await meeting.join();
  return meeting;
}

/** Codec and encodings of each picture that was sent. */
function pictures(): unknown[] {
  const sent = channel.asked.filter(
    ({ name, data }) => name === 'produce' && data.kind === 'video',
  );
  return sent.map(({ data }) => {
    const { codecs, encodings } = data.rtpParameters as {
      codecs: { mimeType: string }[];
      encodings: { scalabilityMode?: string; maxBitrate?: number }[];
    };
    return [codecs[0]?.mimeType, encodings.length, encodings.at(-1)?.maxBitrate];
  });
}

test('what is sent follows the advice, and changes with it', async () => {
  const meeting = await joined(advice('video/VP9'));
  expect(channel.asked.at(-1)?.data).toMatchObject({ codecHints: { mobile: false } });
  await meeting.enable('camera');
  expect(pictures()).toEqual([['video/VP9', 2, 300_000]]);
  const told = vi.fn();
  meeting.on('codecAdvice', told);
  // The same codec, with less: that is the sender's own to adapt.
  channel.say('codecAdvice', { ...advice('video/VP9'), reason: 'thin' });
  await vi.advanceTimersByTimeAsync(0);
  expect(pictures()).toHaveLength(1);
  channel.say('codecAdvice', advice('video/VP8'));
  await vi.advanceTimersByTimeAsync(0);
  expect(pictures()[1]).toEqual(['video/VP8', 2, 300_000]);
  expect(channel.names().filter((name) => name === 'closeProducer')).toHaveLength(1);
  expect(told).toHaveBeenCalledTimes(2);
});

test('a picture is sent in another codec although the server does not know the one before', async () => {
  const meeting = await joined(advice('video/VP9'));
  await meeting.enable('camera');
  channel.refused.add('closeProducer');
  channel.say('codecAdvice', advice('video/VP8'));
  await vi.advanceTimersByTimeAsync(0);
  expect(pictures().map((picture) => (picture as string[])[0])).toEqual(['video/VP9', 'video/VP8']);
  expect(meeting.snapshot.error).toBeNull();
});

test('layers inside one stream are one encoding', async () => {
  const meeting = await joined(advice('video/VP8', 'svc'));
  await meeting.enable('camera');
  expect(pictures()).toEqual([['video/VP8', 1, 500_000]]);
});

test.each([
  ['who opts out', { followsAdvice: false }],
  ['who wants a codec', { videoCodec: 'video/VP8' }],
])('%s sends what this package always sends', async (_, options) => {
  const meeting = await joined(advice('video/VP9'), options);
  await meeting.enable('camera');
  channel.say('codecAdvice', advice('video/H264'));
  channel.say('codecAdvice', advice('video/VP9'));
  await vi.advanceTimersByTimeAsync(0);
  expect(pictures()).toEqual([['video/VP8', 3, 900_000]]);
});

test('an advised codec that the browser does not send is let be', async () => {
  const meeting = await joined(advice('video/AV1'));
  await meeting.enable('camera');
  expect(pictures()).toEqual([['video/VP8', 3, 900_000]]);
});

test('a phone says what its hardware encodes', async () => {
  vi.stubGlobal('navigator', {
    mediaDevices: fakeDevices().mediaDevices,
    userAgentData: { mobile: true },
    mediaCapabilities: {
      encodingInfo: async ({ video }: { video: { contentType: string } }) => {
        if (video.contentType === 'video/AV1') throw new TypeError('unknown');
        return { supported: true, powerEfficient: video.contentType === 'video/H264' };
      },
    },
  });
  await joined(undefined);
  expect(channel.asked.at(-1)?.data).toMatchObject({
    codecHints: { mobile: true, hardwareEncoders: ['video/H264'] },
  });
});
