import type { types } from 'mediasoup-client';

/**
 * Sound that repeats itself (RED, RFC 2198): each packet carries the frame before it once more, so that a single loss is
 * repaired without a request. mediasoup-client negotiates one codec and does not know it, so it is added to what is
 * negotiated here: beside Opus, which stays what is sent until a sender is told otherwise.
 */

const RED = 'audio/red';

/** Opus as browsers have it. */
const CLOCK_RATE = 48_000;
const CHANNELS = 2;

/** Towards us, the server calls it by a number of its own. */
const CAPABILITY: types.RtpCodecCapability = {
  kind: 'audio',
  mimeType: RED,
  preferredPayloadType: 63,
  clockRate: CLOCK_RATE,
  channels: CHANNELS,
  parameters: {},
  rtcpFeedback: [],
};

function isRed({ mimeType, clockRate }: { mimeType: string; clockRate: number }): boolean {
  return mimeType.toLowerCase() === RED && clockRate === CLOCK_RATE;
}

/** What this end can receive, with RED where this browser has it. */
export function withRed(capabilities: types.RtpCapabilities): types.RtpCapabilities {
  const receives = globalThis.RTCRtpReceiver?.getCapabilities?.('audio')?.codecs.some(isRed);
  if (!receives) return capabilities;
  return { ...capabilities, codecs: [...(capabilities.codecs ?? []), CAPABILITY] };
}

interface Section {
  /** From the `m=` line on. */
  lines: string[];
  mid: string | undefined;
  opus: string | undefined;
  red: string | undefined;
}

/** The session's lines, and those of each section with the numbers of Opus and of RED of it. */
function sections(sdp: string): { session: string[]; media: Section[] } {
  const lines = sdp.split('\r\n').filter((line) => line);
  const begins = lines.flatMap((line, index) => (line.startsWith('m=') ? [index] : []));
  const media = begins.map((begin, index) => {
    const own = lines.slice(begin, begins[index + 1]);
    const number = (codec: RegExp) => own.map((line) => codec.exec(line)?.[1]).find(Boolean);
    const opus = number(/^a=rtpmap:(\d+) opus\/48000\/2$/i);
    const red = number(/^a=rtpmap:(\d+) red\/48000\/2$/i);
    const isOfOpus = own.includes(`a=fmtp:${red} ${opus}/${opus}`);
    return { lines: own, mid: number(/^a=mid:(.+)$/), opus, red: isOfOpus ? red : undefined };
  });
  return { session: lines.slice(0, begins[0]), media };
}

/**
 * An answer that takes RED of each Opus that it takes, where the offer has it. Chromium sends what it has a way of in RED
 * if RED comes first: so in sections of these MIDs.
 */
export function answerWithRed(
  answer: string,
  offer: string,
  repeated: ReadonlySet<string> = new Set(),
): string {
  const offered = sections(offer).media;
  const { session, media } = sections(answer);
  const lines = media.flatMap(({ lines, opus, red, mid }, index) => {
    const theirs = offered[index];
    const isMissing = opus && !red && theirs?.red && theirs.opus === opus;
    const [first = '', ...rest] = lines;
    if (!isMissing) return lines;
    const both = mid && repeated.has(mid) ? `${theirs.red} ${opus}` : `${opus} ${theirs.red}`;
    return [
      first.replace(new RegExp(` ${opus}(?= |$)`), ` ${both}`),
      ...rest,
      `a=rtpmap:${theirs.red} red/${CLOCK_RATE}/${CHANNELS}`,
      `a=fmtp:${theirs.red} ${opus}/${opus}`,
    ];
  });
  return [...session, ...lines, ''].join('\r\n');
}

/** MIDs of what is sent as RED, by connection. */
const repeatedOf = new WeakMap<RTCPeerConnection, Set<string>>();

/** Has a sending transport negotiate RED beside Opus. Without effect where it has no connection that is known here. */
export function negotiateRed(transport: types.Transport): void {
  const connection = connectionOf(transport);
  if (!connection) return;
  const repeated = new Set<string>();
  repeatedOf.set(connection, repeated);
  const set = connection.setRemoteDescription.bind(connection);
  connection.setRemoteDescription = (description: RTCSessionDescriptionInit) => {
    const { type, sdp } = description;
    const offer = connection.localDescription?.sdp;
    if (type !== 'answer' || !sdp || !offer) return set(description);
    return set({ type, sdp: answerWithRed(sdp, offer, repeated) });
  };
}

/** The section of a MID as the server answered it, if it takes RED there. */
function answered(connection: RTCPeerConnection | undefined, mid: string | undefined) {
  const sdp = connection?.remoteDescription?.sdp;
  const own = sdp && mid ? sections(sdp).media.find((section) => section.mid === mid) : undefined;
  return own?.red ? own : undefined;
}

/** What is to be told the server of a track, with RED where that was negotiated. */
export function producedWithRed(
  transport: types.Transport,
  parameters: types.RtpParameters,
): types.RtpParameters {
  const own = answered(connectionOf(transport), parameters.mid);
  const [opus] = parameters.codecs;
  if (!own || !opus || own.opus !== String(opus.payloadType)) return parameters;
  const { clockRate, channels } = opus;
  const red = { mimeType: RED, payloadType: Number(own.red), clockRate, parameters: {} };
  return {
    ...parameters,
    codecs: [...parameters.codecs, { ...red, ...(channels ? { channels } : {}) }],
  };
}

/** Sends as RED from now on, or no longer; the server and those who listen need not be told. */
export async function repeat(
  transport: types.Transport | undefined,
  producer: types.Producer,
  isRepeated: boolean,
): Promise<void> {
  const connection = transport && connectionOf(transport);
  const repeated = connection && repeatedOf.get(connection);
  const { mid } = producer.rtpParameters;
  if (!repeated || !mid || producer.closed || repeated.has(mid) === isRepeated) return;
  if (!answered(connection, mid)) return;
  if (isRepeated) repeated.add(mid);
  else repeated.delete(mid);
  // Changes nothing, and has mediasoup-client negotiate anew, in its turn.
  await producer.setRtpEncodingParameters({} as RTCRtpEncodingParameters).catch(() => undefined);
}

/** The connection below a transport of mediasoup-client, which keeps it to itself. */
function connectionOf(transport: types.Transport): RTCPeerConnection | undefined {
  const { _pc } = transport.handler as unknown as { _pc?: RTCPeerConnection };
  return typeof _pc?.setRemoteDescription === 'function' ? _pc : undefined;
}
