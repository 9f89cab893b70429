import type { Page } from 'playwright-core';

declare global {
  interface Window {
    /** Begins to talk, or falls silent. */
    speak: (isSpeaking: boolean) => void;
  }
}

/**
 * Runs in the page: its camera is a moving picture of one colour, by which it is known, and its microphone is silent until
 * it is to speak. Speech is loud and less loud by turns, as a steady tone is taken for noise.
 */
export function actor(colour: string): void {
  let voice: GainNode | undefined;
  window.speak = (isSpeaking) => {
    if (!voice) throw new Error('this microphone is not open');
    const { context, gain } = voice;
    gain.cancelScheduledValues(context.currentTime);
    gain.setValueAtTime(0, context.currentTime);
    for (let at = 0; isSpeaking && at < 60; at += 0.6) {
      gain.setValueAtTime(0.5, context.currentTime + at);
      // No digital silence: that may be anyone's who has stopped.
      gain.setValueAtTime(0.005, context.currentTime + at + 0.5);
    }
  };
  const openMicrophone = () => {
    const context = new AudioContext();
    const tone = new OscillatorNode(context, { frequency: 300 });
    voice = new GainNode(context, { gain: 0 });
    const out = new MediaStreamAudioDestinationNode(context);
    tone.connect(voice).connect(out);
    tone.start();
    return out.stream.getAudioTracks();
  };
  const openCamera = () => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 180 });
    const pen = canvas.getContext('2d');
    let at = 0;
    setInterval(() => {
      if (!pen) return;
      pen.fillStyle = colour;
      pen.fillRect(0, 0, 320, 180);
      pen.fillStyle = 'white';
      at = (at + 4) % 320;
      pen.fillRect(at, 0, 4, 20);
    }, 66);
    return canvas.captureStream(15).getVideoTracks();
  };
  navigator.mediaDevices.getUserMedia = async (wanted = {}) =>
    new MediaStream([
      ...(wanted.audio ? openMicrophone() : []),
      ...(wanted.video ? openCamera() : []),
    ]);
  navigator.mediaDevices.getDisplayMedia = async () => new MediaStream(openCamera());
}

/** A tile of someone else, as it looks. */
export interface Tile {
  name: string;
  isMain: boolean;
  source: string;
  hasPicture: boolean;
  /** Of the middle of its picture: `red`, `green`, `blue`, or what else. */
  colour: string;
  /** Shown so far by its element. */
  frames: number;
}

/** The tiles of the others. */
export function tilesOf(page: Page): Promise<Tile[]> {
  return page.evaluate(() => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 16, height: 9 });
    const pen = canvas.getContext('2d', { willReadFrequently: true });
    const colourOf = (video: HTMLVideoElement) => {
      if (!pen || video.videoWidth === 0) return 'none';
      pen.drawImage(video, 0, 0, 16, 9);
      const [red = 0, green = 0, blue = 0] = pen.getImageData(8, 5, 1, 1).data;
      const sure = (one: number, ...others: number[]) => others.every((other) => one > other + 80);
      if (sure(red, green, blue)) return 'red';
      if (sure(green, red, blue)) return 'green';
      return sure(blue, red, green) ? 'blue' : `${red},${green},${blue}`;
    };
    return [...document.querySelectorAll<HTMLElement>('.oc-tile[data-local="false"]')].map(
      (tile) => {
        const video = tile.querySelector('video');
        return {
          name: tile.querySelector('.oc-name span')?.textContent ?? '',
          isMain: tile.dataset.main === 'true',
          source: tile.dataset.source ?? '',
          hasPicture: tile.dataset.picture === 'true',
          colour: video ? colourOf(video) : 'none',
          frames: video?.getVideoPlaybackQuality().totalVideoFrames ?? 0,
        };
      },
    );
  });
}
