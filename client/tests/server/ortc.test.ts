import * as ortc from 'mediasoup/ortc';
import type {
  MediaKind,
  RtcpFeedback,
  RtpCapabilities,
  RtpCodecCapability,
  RtpCodecParameters,
  RtpEncodingParameters,
  RtpParameters,
} from 'mediasoup/types';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { TestServer } from '../browser/support/server';
import { until } from '../browser/support/wait';
import { jsonWithNotations, Peer } from './peer';
import { type JsonObject, Random, vary } from './rtp_inputs';

/** Of parameters and of capabilities each; `scripts/prove ortc` tries more of them. */
const INPUTS = Number(process.env.OPENCALL_ORTC_INPUTS ?? 300);
const SEED = Number(process.env.OPENCALL_ORTC_SEED ?? 1);

/** A connection keeps all that it was told: another one takes over from time to time. */
const INPUTS_PER_PEER = 200;

let server: TestServer;
let router: RtpCapabilities;

beforeAll(async () => {
  server = await TestServer.start({ name: 'ortc' });
  const peer = await connect('asks', 'asks');
  const { data } = await peer.ask('getRouterRtpCapabilities', {});
  router = data?.routerRtpCapabilities as RtpCapabilities;
  await peer.leave();
});

afterAll(() => server.stop());

function connect(roomId: string, peerId: string): Promise<Peer> {
  return Peer.connect(server, 'protoo (old)', { query: { roomId, peerId } });
}

/** The router's capabilities as mediasoup keeps its own. */
function normalizedRouter(): RtpCapabilities {
  const copy = structuredClone(router);
  ortc.validateAndNormalizeRtpCapabilities(copy);
  return copy;
}

test('parameters that mediasoup takes are taken, and consumed the same', {
  timeout: timeout(),
}, async () => {
  const random = new Random(SEED);
  const counts = { taken: 0, refused: 0, mediasoupAlone: 0, oursAlone: 0 };
  const room = 'parameters';
  let [sender, receiver] = [await connect(room, 'sender'), await connect(room, 'receiver')];
  for (let number = 0; number < INPUTS; number += 1) {
    if (number % INPUTS_PER_PEER === 0) {
      for (const peer of [sender, receiver]) await peer.leave();
      [sender, receiver] = [await connect(room, 'sender'), await connect(room, 'receiver')];
      for (const peer of [sender, receiver]) await peer.join();
    }
    const { kind, rtpParameters } = random.pick(SENT);
    const input = vary(random, rtpParameters);
    const text = jsonWithNotations(input);
    const parameters = JSON.parse(text) as RtpParameters;
    const theirs = consumable(kind, structuredClone(parameters));
    const { data, reason } = await sender.produceWith(kind, input);
    if (data) counts[theirs ? 'taken' : 'oursAlone'] += 1;
    else counts[theirs ? 'mediasoupAlone' : 'refused'] += 1;
    if (theirs && !data) expect(namesNothing(parameters), `${reason}: ${text}`).toBeDefined();
    if (theirs && data) {
      const offered = await offer(receiver, data.id, text);
      const wanted = consumed(kind, theirs, normalizedRouter());
      expect(compared(offered), text).toEqual(wanted && compared(wanted));
    }
    if (data) await sender.ask('closeProducer', { producerId: data.id });
  }
  for (const peer of [sender, receiver]) await peer.leave();
  console.info(`parameters: ${JSON.stringify(counts)}`);
  // The inputs are no nonsense, and no copies of what browsers write either.
  expect(counts.taken).toBeGreaterThan(INPUTS / 2);
  expect(counts.refused).toBeGreaterThan(INPUTS / 20);
});

test('capabilities that mediasoup takes are taken, and consume the same', {
  timeout: timeout(),
}, async () => {
  const sender = await connect('capabilities', 'sender');
  await sender.join();
  const producers = new Map<unknown, { kind: MediaKind; theirs: RtpParameters }>();
  for (const { kind, rtpParameters } of SENT) {
    const { data } = await sender.produceWith(kind, rtpParameters);
    const parameters = structuredClone(rtpParameters) as unknown as RtpParameters;
    const theirs = consumable(kind, parameters);
    if (theirs) producers.set(data?.id, { kind, theirs });
  }
  const random = new Random(SEED);
  const counts = { taken: 0, refused: 0, oursAlone: 0, consumers: 0 };
  for (let number = 0; number < INPUTS; number += 1) {
    const input = vary(random, router as unknown as JsonObject);
    const text = jsonWithNotations(input);
    const capabilities = JSON.parse(text) as RtpCapabilities;
    const refusal = capabilitiesRefusal(capabilities);
    const receiver = await connect('capabilities', 'receiver');
    const reason = await receiver.join('Someone', input).then(
      () => undefined,
      (error) => String(error),
    );
    if (refusal) {
      counts[reason ? 'refused' : 'oursAlone'] += 1;
      await receiver.leave();
      continue;
    }
    expect(reason, text).toBeUndefined();
    counts.taken += 1;
    for (const [producerId, { kind, theirs }] of producers) {
      const wanted = consumed(kind, theirs, structuredClone(capabilities));
      if (!wanted) continue;
      expect(compared(await offer(receiver, producerId, text)), text).toEqual(compared(wanted));
      counts.consumers += 1;
    }
    await receiver.leave();
  }
  await sender.leave();
  console.info(`capabilities: ${JSON.stringify(counts)}`);
  expect(counts.taken).toBeGreaterThan(INPUTS / 2);
});

/** More inputs take longer. */
function timeout(): number {
  return inject('ceilingMs') * Math.ceil(INPUTS / 300);
}

/** What a peer is offered of a producer. */
async function offer(receiver: Peer, producerId: unknown, input: string): Promise<RtpParameters> {
  // Most offers have come when this is answered.
  await receiver.ask('getRtcStatsUrl', {});
  const offered = await until(
    `a consumer for ${input}`,
    async () => receiver.heard('newConsumer').find((each) => each.producerId === producerId),
    Boolean,
  );
  return offered?.rtpParameters as RtpParameters;
}

/** What mediasoup makes of a producer's parameters for consumers; nothing if it refuses them. */
function consumable(kind: MediaKind, parameters: RtpParameters): RtpParameters | undefined {
  try {
    ortc.validateAndNormalizeRtpParameters(parameters);
    if (!parameters.encodings?.length) parameters.encodings = [{}];
    // mediasoup takes the first encoding's temporal layers for those of all, we the most of any.
    const modes = parameters.encodings.map(({ scalabilityMode }) => scalabilityMode);
    const most = modes.reduce((a, b) => (temporalLayers(b) > temporalLayers(a) ? b : a));
    for (const encoding of parameters.encodings) {
      if (most) encoding.scalabilityMode = most;
      // mediasoup compares what is no number with numbers; to us it is no bound.
      if (typeof encoding.maxBitrate !== 'number') delete encoding.maxBitrate;
    }
    const capabilities = normalizedRouter();
    const mapping = ortc.getProducerRtpParametersMapping(parameters, capabilities);
    return ortc.getConsumableRtpParameters(kind, parameters, capabilities, mapping);
  } catch {
    return undefined;
  }
}

function temporalLayers(scalabilityMode: string | undefined): number {
  return Number(/^[LS]\d+T(\d+)/.exec(scalabilityMode || '')?.[1] ?? 0);
}

function capabilitiesRefusal(capabilities: RtpCapabilities): string | undefined {
  try {
    ortc.validateAndNormalizeRtpCapabilities(structuredClone(capabilities));
    return undefined;
  } catch (error) {
    return String(error);
  }
}

/** What mediasoup lets a client with these capabilities consume; nothing where it cannot. */
function consumed(
  kind: MediaKind,
  consumableRtpParameters: RtpParameters,
  remoteRtpCapabilities: RtpCapabilities,
): RtpParameters | undefined {
  if (!ortc.canConsume(consumableRtpParameters, remoteRtpCapabilities)) return undefined;
  const { codecs = [], headerExtensions = [] } = remoteRtpCapabilities;
  const parameters = ortc.getConsumerRtpParameters({
    consumableRtpParameters,
    // mediasoup takes an extension that the client has for the other kind alone.
    remoteRtpCapabilities: {
      codecs,
      headerExtensions: headerExtensions.filter((extension) => extension.kind === kind),
    },
    pipe: false,
    // By default mediasoup takes NACK from audio; we leave it in, as mediasoup does when asked to.
    enableRtx: true,
  });
  const types = parameters.codecs.map((codec) => codec.payloadType);
  const kept = parameters.codecs.filter(
    (ours, index) =>
      // mediasoup lists a codec twice that the producer has twice.
      types.indexOf(ours.payloadType) === index &&
      // mediasoup takes RTX of one codec for that of all.
      (!isRtx(ours) || codecs.some((theirs) => isSameRtx(ours, theirs))),
  );
  const [encoding] = parameters.encodings ?? [];
  if (encoding && !kept.some(isRtx)) delete encoding.rtx;
  return { ...parameters, codecs: kept };
}

function isSameRtx(ours: RtpCodecParameters, theirs: RtpCodecCapability): boolean {
  return (
    isRtx(theirs) &&
    theirs.clockRate === ours.clockRate &&
    theirs.parameters?.apt === ours.parameters?.apt
  );
}

function isRtx({ mimeType }: { mimeType: string }): boolean {
  return /\/rtx$/i.test(mimeType);
}

/**
 * Announced by us to every consumer, by mediasoup only where the producer has it: in packets that lack it the consumer
 * misses nothing.
 */
const CAPTURE_TIME = 'http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time';

/** What both must agree on of a consumer's parameters. */
function compared({ codecs, headerExtensions = [], encodings = [] }: RtpParameters) {
  return {
    codecs: codecs.map(({ mimeType, payloadType, clockRate, parameters, rtcpFeedback = [] }) => ({
      mimeType,
      payloadType,
      clockRate,
      // mediasoup lowers the level of H.264 to the router's; we forward every level.
      parameters: { ...parameters, 'profile-level-id': undefined },
      rtcpFeedback: knownFeedback(payloadType, rtcpFeedback),
    })),
    headerExtensions: headerExtensions
      .filter(({ uri }) => uri !== CAPTURE_TIME)
      .map(({ uri, id }) => `${id} ${uri}`),
    encodings: encodings.map(({ scalabilityMode, maxBitrate, rtx }) => ({
      scalabilityMode,
      // Whole bits, in 32 of them.
      maxBitrate: maxBitrate && Math.min(Math.trunc(maxBitrate), 2 ** 32 - 1),
      hasRtx: Boolean(rtx),
    })),
  };
}

/** Of what a consumer lists, what the router knows: mediasoup repeats whatever the client has written. */
function knownFeedback(payloadType: number, list: RtcpFeedback[]): string[] {
  const name = ({ type, parameter = '' }: RtcpFeedback) => `${type} ${parameter}`;
  const codec = router.codecs?.find((codec) => codec.preferredPayloadType === payloadType);
  const known = new Set(codec?.rtcpFeedback?.map(name));
  return [...new Set(list.map(name))].filter((each) => known.has(each)).sort();
}

const TOKEN = /^[\w.~+!#$%&'*^`|-]{1,16}$/;

/**
 * What mediasoup's validator lets through, but no packet can be told by: its worker refuses it or cuts it to another
 * number. We refuse it.
 */
function namesNothing(parameters: RtpParameters): string | undefined {
  const { codecs, headerExtensions, encodings, mid } = parameters;
  const isWhole = (number: unknown, from: number, to: number) =>
    Number.isInteger(number) && Number(number) >= from && Number(number) <= to;
  const mediaTypes = codecs.filter((codec) => !isRtx(codec)).map((codec) => codec.payloadType);
  if (mediaTypes.length === 0) return 'no codec';
  if (!codecs.every(({ payloadType }) => isWhole(payloadType, 0, 127))) return 'a payload type';
  if (!codecs.every(({ clockRate }) => isWhole(clockRate, 1, 2 ** 32 - 1))) return 'a clock rate';
  if (hasTwice(codecs.map(({ payloadType }) => payloadType))) return 'a payload type twice';
  const ids = (headerExtensions || []).map(({ id }) => id);
  if (!ids.every((id) => isWhole(id, 1, 255)) || hasTwice(ids)) return 'an extension id';
  if (mid && !TOKEN.test(mid)) return 'a mid';
  const list = (encodings || []) as RtpEncodingParameters[];
  const ssrcs = list.flatMap(({ ssrc, rtx }) => [ssrc || [], rtx?.ssrc || []].flat());
  if (!ssrcs.every((ssrc) => isWhole(ssrc, 1, 2 ** 32 - 1)) || hasTwice(ssrcs)) return 'an SSRC';
  const rids = list.flatMap(({ rid }) => rid || []);
  if (!rids.every((rid) => TOKEN.test(rid)) || hasTwice(rids)) return 'a rid';
  const named = list.filter(({ ssrc, rid }) => ssrc || rid).length;
  if (list.length > 1 ? named < list.length : !named && !mid) return 'an encoding without a name';
  const chosen = list.flatMap(({ codecPayloadType }) => codecPayloadType ?? []);
  if (!chosen.every((type) => mediaTypes.includes(type))) return 'a codecPayloadType';
  // mediasoup does not look at it; decoders of profile 0 show nothing of the others.
  if (codecs.some((codec) => codec.parameters?.profile)) return 'a profile of AV1';
  return undefined;
}

function hasTwice(list: unknown[]): boolean {
  return new Set(list).size < list.length;
}

const EXTENSIONS = [
  { uri: 'urn:ietf:params:rtp-hdrext:sdes:mid', id: 4, encrypt: false, parameters: {} },
  {
    uri: 'http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time',
    id: 2,
    encrypt: false,
    parameters: {},
  },
];

/** What mediasoup-client makes of Chromium's offers. */
const SENT: { kind: MediaKind; rtpParameters: JsonObject }[] = [
  {
    kind: 'audio',
    rtpParameters: {
      mid: '0',
      codecs: [
        {
          mimeType: 'audio/opus',
          payloadType: 111,
          clockRate: 48_000,
          channels: 2,
          parameters: { minptime: 10, useinbandfec: 1, usedtx: 1 },
          rtcpFeedback: [{ type: 'transport-cc', parameter: '' }],
        },
      ],
      headerExtensions: EXTENSIONS,
      encodings: [{ ssrc: 5, dtx: false }],
      rtcp: { cname: 'abc', reducedSize: true },
    },
  },
  video(1, 'video/VP8', {}, [
    { rid: 'r0', scalabilityMode: 'L1T3', maxBitrate: 100_000, scaleResolutionDownBy: 4 },
    { rid: 'r1', scalabilityMode: 'L1T3', maxBitrate: 300_000, active: true, dtx: false },
  ]),
  video(2, 'video/VP9', { 'profile-id': 0 }, [
    { ssrc: 1111, rtx: { ssrc: 2222 }, scalabilityMode: 'L3T3_KEY' },
  ]),
  video(
    3,
    'video/H264',
    { 'packetization-mode': 1, 'profile-level-id': '42e01f', 'level-asymmetry-allowed': 1 },
    [{ ssrc: 3333, rtx: { ssrc: 4444 } }],
  ),
  video(4, 'video/AV1', { profile: 0, 'level-idx': 5, tier: 0 }, [{ ssrc: 5555 }]),
];

function video(
  mid: number,
  mimeType: string,
  parameters: JsonObject,
  encodings: JsonObject[],
): { kind: MediaKind; rtpParameters: JsonObject } {
  const feedback = ['goog-remb', 'transport-cc', 'ccm fir', 'nack', 'nack pli'].map((name) => {
    const [type = '', parameter = ''] = name.split(' ');
    return { type, parameter };
  });
  const rtpParameters = {
    mid: String(mid),
    codecs: [
      { mimeType, payloadType: 96, clockRate: 90_000, parameters, rtcpFeedback: feedback },
      {
        mimeType: 'video/rtx',
        payloadType: 97,
        clockRate: 90_000,
        parameters: { apt: 96 },
        rtcpFeedback: [],
      },
    ],
    headerExtensions: EXTENSIONS,
    encodings,
    rtcp: { cname: 'abc', reducedSize: true },
  };
  return { kind: 'video', rtpParameters };
}
