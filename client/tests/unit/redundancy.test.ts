import type { types } from 'mediasoup-client';
import { afterEach, expect, test, vi } from 'vitest';
import {
  answerWithRed,
  negotiateRed,
  producedWithRed,
  repeat,
  withRed,
} from '../../src/sdk/redundancy';

afterEach(() => vi.unstubAllGlobals());

const lines = (...text: string[]) => [...text, ''].join('\r\n');

const OFFER = lines(
  'v=0',
  'a=group:BUNDLE 0 1',
  'm=audio 9 UDP/TLS/RTP/SAVPF 111 63 9',
  'a=mid:0',
  'a=rtpmap:111 opus/48000/2',
  'a=fmtp:111 minptime=10;useinbandfec=1',
  'a=rtpmap:63 red/48000/2',
  'a=fmtp:63 111/111',
  'm=video 9 UDP/TLS/RTP/SAVPF 96 98',
  'a=mid:1',
  'a=rtpmap:96 VP8/90000',
  'a=rtpmap:98 red/90000',
);

const ANSWER = lines(
  'v=0',
  'm=audio 7 UDP/TLS/RTP/SAVPF 111',
  'a=mid:0',
  'a=rtpmap:111 opus/48000/2',
  'm=video 7 UDP/TLS/RTP/SAVPF 96',
  'a=mid:1',
  'a=rtpmap:96 VP8/90000',
);

test('RED is answered beside Opus, behind it', () => {
  const answer = answerWithRed(ANSWER, OFFER);
  expect(answer).toBe(
    lines(
      'v=0',
      'm=audio 7 UDP/TLS/RTP/SAVPF 111 63',
      'a=mid:0',
      'a=rtpmap:111 opus/48000/2',
      'a=rtpmap:63 red/48000/2',
      'a=fmtp:63 111/111',
      'm=video 7 UDP/TLS/RTP/SAVPF 96',
      'a=mid:1',
      'a=rtpmap:96 VP8/90000',
    ),
  );
  expect(answerWithRed(answer, OFFER), 'once').toBe(answer);
  const first = answerWithRed(ANSWER, OFFER, new Set(['0']));
  expect(first).toBe(answer.replace('SAVPF 111 63', 'SAVPF 63 111'));
});

test.each([
  ['no RED is offered', OFFER.replace('a=rtpmap:63 red/48000/2\r\n', '')],
  ['it repeats another codec', OFFER.replace('a=fmtp:63 111/111', 'a=fmtp:63 9/9')],
  ['the answer takes another number for Opus', OFFER.replaceAll('111', '110')],
  ['there is no such section', 'v=0\r\n'],
])('an answer stays as it is where %s', (_, offer) => {
  expect(answerWithRed(ANSWER, offer)).toBe(ANSWER);
});

test('what this end can receive has RED where the browser has it', () => {
  const own: types.RtpCapabilities = { codecs: [], headerExtensions: [] };
  expect(withRed(own), 'no browser').toBe(own);
  const browser = (codecs: object[]) =>
    vi.stubGlobal('RTCRtpReceiver', { getCapabilities: () => ({ codecs }) });
  browser([{ mimeType: 'audio/opus', clockRate: 48_000 }]);
  expect(withRed(own)).toBe(own);
  browser([{ mimeType: 'audio/red', clockRate: 48_000 }]);
  expect(withRed(own).codecs).toMatchObject([{ mimeType: 'audio/red', channels: 2 }]);
  expect(own.codecs).toEqual([]);
});

/** A transport whose connection keeps what it is given, and a producer that has it negotiate anew. */
function sending() {
  const connection = {
    localDescription: { type: 'offer', sdp: OFFER },
    remoteDescription: undefined as { sdp: string } | undefined,
    setRemoteDescription: async (description: { sdp: string }) => {
      connection.remoteDescription = description;
    },
  };
  const transport = { handler: { _pc: connection } } as unknown as types.Transport;
  const negotiate = vi.fn(() =>
    connection.setRemoteDescription({ type: 'answer', sdp: ANSWER } as never),
  );
  const opus = { mimeType: 'audio/opus', payloadType: 111, clockRate: 48_000, channels: 2 };
  const rtpParameters = { mid: '0', codecs: [opus] } as types.RtpParameters;
  const producer = {
    rtpParameters,
    setRtpEncodingParameters: negotiate,
  } as unknown as types.Producer;
  const first = () => connection.remoteDescription?.sdp.match(/SAVPF (\d+) ?(\d*)/)?.slice(1, 3);
  return { transport, producer, negotiate, rtpParameters, first };
}

test('a voice is sent as RED and no longer, each time by an answer anew', async () => {
  const { transport, producer, negotiate, rtpParameters, first } = sending();
  negotiateRed(transport);
  await negotiate();
  expect(first()).toEqual(['111', '63']);
  const { codecs } = producedWithRed(transport, rtpParameters);
  expect(codecs.map(({ mimeType, payloadType }) => [mimeType, payloadType])).toEqual([
    ['audio/opus', 111],
    ['audio/red', 63],
  ]);
  await repeat(transport, producer, true);
  expect(first()).toEqual(['63', '111']);
  await repeat(transport, producer, true);
  expect(negotiate).toHaveBeenCalledTimes(2);
  await repeat(transport, producer, false);
  expect(first()).toEqual(['111', '63']);
});

test('a connection that does not negotiate RED is let be', async () => {
  const { transport, producer, negotiate, rtpParameters, first } = sending();
  await negotiate();
  expect(first()).toEqual(['111', '']);
  expect(producedWithRed(transport, rtpParameters)).toBe(rtpParameters);
  await repeat(transport, producer, true);
  expect(negotiate).toHaveBeenCalledTimes(1);
});
