import type { types } from 'mediasoup-client';

/** Three simulcast layers of the camera, low to high, as OpenCall's clients send them. */
export const CAMERA_ENCODINGS: types.RtpEncodingParameters[] = [
  { rid: 'r0', maxBitrate: 100_000, scaleResolutionDownBy: 4, scalabilityMode: 'L1T3' },
  { rid: 'r1', maxBitrate: 300_000, scaleResolutionDownBy: 2, scalabilityMode: 'L1T3' },
  { rid: 'r2', maxBitrate: 900_000, scaleResolutionDownBy: 1, scalabilityMode: 'L1T3' },
];

/** The screen: one encoding, sharp and smooth enough for video; on a slow link fewer pictures, not smaller ones. */
export const SCREEN_ENCODINGS: types.RtpEncodingParameters[] = [
  { maxBitrate: 1_500_000, maxFramerate: 30, scalabilityMode: 'L1T3' },
];

/** The sound of a screen: music, not a voice that pauses. */
export const SCREEN_AUDIO_CODEC: types.ProducerCodecOptions = {
  opusStereo: true,
  opusFec: true,
  opusMaxAverageBitrate: 128_000,
  opusPtime: 20,
};

/** Opus for speech and music; FEC against loss, DTX so that silence costs nothing. */
export const MICROPHONE_CODEC: types.ProducerCodecOptions = {
  opusStereo: true,
  opusFec: true,
  opusDtx: true,
  opusMaxAverageBitrate: 128_000,
  opusPtime: 20,
};

/** Without a start value the first seconds of video are blurred while the estimate grows. */
export const VIDEO_CODEC: types.ProducerCodecOptions = { videoGoogleStartBitrate: 1000 };

/** Height of each spatial layer of a 720p camera, low to high. */
const LAYER_HEIGHTS_PX = [180, 360, 720];

/** The lowest spatial layer that still looks sharp in a tile of this many device pixels. */
export function spatialLayerFor(tileHeightPx: number): number {
  // A fifth below the layer's height is upscaling that nobody notices.
  const layer = LAYER_HEIGHTS_PX.findIndex((height) => tileHeightPx <= height * 1.2);
  return layer === -1 ? LAYER_HEIGHTS_PX.length - 1 : layer;
}
