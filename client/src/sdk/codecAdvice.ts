import type { types } from 'mediasoup-client';
import { CAMERA_ENCODINGS, MICROPHONE_CODEC, SCREEN_ENCODINGS } from './encodings';
import type { Source } from './participants';
import type { CodecAdvice, CodecHints } from './protocol';

const VIDEO_CODECS = ['video/VP8', 'video/VP9', 'video/H264', 'video/AV1'];

/** How long the browser may take to say what it encodes in hardware; the server does without. */
const HINTS_TIMEOUT_MS = 300;

/** What this device is, for the server's advice. Only phones are asked what their hardware encodes: it spares batteries. */
export async function codecHints(): Promise<CodecHints> {
  const { userAgent = '', userAgentData } = (globalThis.navigator ?? {}) as {
    userAgent?: string;
    userAgentData?: { mobile?: boolean };
  };
  const isIos = /iPhone|iPad|iPod/.test(userAgent);
  const mobile = userAgentData?.mobile ?? (isIos || /Mobi|Android/.test(userAgent));
  if (!mobile) return { mobile };
  const platform = isIos ? 'ios' : 'other';
  const late = new Promise<string[]>((resolve) => setTimeout(() => resolve([]), HINTS_TIMEOUT_MS));
  return { mobile, platform, hardwareEncoders: await Promise.race([hardwareEncoders(), late]) };
}

async function hardwareEncoders(): Promise<string[]> {
  const capabilities = globalThis.navigator?.mediaCapabilities;
  const video = { width: 1280, height: 720, bitrate: 1_500_000, framerate: 30 };
  const answers = VIDEO_CODECS.map(async (contentType) => {
    try {
      const asked = { type: 'webrtc' as const, video: { contentType, ...video } };
      const { supported, powerEfficient } = await capabilities.encodingInfo(asked);
      return supported && powerEfficient ? [contentType] : [];
    } catch {
      return [];
    }
  });
  return (await Promise.all(answers)).flat();
}

/** Layers up to each profile, of the three that a camera has. */
const LAYERS: Record<string, number> = { '180p15': 1, '360p20': 2, '720p30': 3 };

/** How a source is sent in the advised codec. */
export function encodingsOf(
  source: Source,
  { video }: CodecAdvice,
): types.RtpEncodingParameters[] | undefined {
  if (!video) return undefined;
  const { maxBitrate, maxScreenBitrate: screenBitrate, scalabilityMode } = video;
  if (source !== 'camera') {
    return SCREEN_ENCODINGS.map((one) => ({
      ...one,
      maxBitrate: Math.min(one.maxBitrate ?? screenBitrate, screenBitrate),
    }));
  }
  const layers = LAYERS[video.profile] ?? CAMERA_ENCODINGS.length;
  if (video.mode === 'simulcast') return CAMERA_ENCODINGS.slice(0, layers);
  const scaleResolutionDownBy = 2 ** (CAMERA_ENCODINGS.length - layers);
  return [{ maxBitrate, scalabilityMode, scaleResolutionDownBy }];
}

/** How a voice is sent. */
export function voiceOptions(advice: CodecAdvice | undefined): types.ProducerCodecOptions {
  if (!advice) return MICROPHONE_CODEC;
  const { dtx, fec, stereo, maxBitrate } = advice.audio;
  return {
    ...MICROPHONE_CODEC,
    opusDtx: dtx,
    opusFec: fec,
    opusStereo: stereo,
    opusMaxAverageBitrate: maxBitrate,
  };
}
