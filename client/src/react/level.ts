import { type RefObject, useEffect } from 'react';

/** Levels are read this often: as smooth as a moving bar needs. */
const PERIOD_MS = 50;

/** Of full scale, where a bar is empty, and where it is full: decibels. */
const QUIET_DB = -55;
const LOUD_DB = -12;

/** Of a level that falls, what is left after one period, so that the bar does not flicker. */
const DECAY = 0.8;

let context: AudioContext | undefined;
let users = 0;

/** Writes how loud a track is, from 0 to 1, into `--oc-level` of an element; without a track, 0. */
export function useLevel(
  track: MediaStreamTrack | null | undefined,
  element: RefObject<HTMLElement | null>,
): void {
  useEffect(() => {
    const target = element.current;
    if (!track || !target || typeof AudioContext === 'undefined') return;
    context ??= new AudioContext();
    const used = context;
    // Suspended where the page was not touched yet; nobody need wait for it.
    void used.resume().catch(() => undefined);
    const source = used.createMediaStreamSource(new MediaStream([track]));
    users += 1;
    const analyser = used.createAnalyser();
    analyser.fftSize = 1024;
    source.connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let level = 0;
    const timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      level = Math.max(loudness(samples), level * DECAY);
      target.style.setProperty('--oc-level', level.toFixed(2));
    }, PERIOD_MS);
    return () => {
      clearInterval(timer);
      source.disconnect();
      users -= 1;
      // It would go on computing silence.
      if (users === 0) void used.suspend().catch(() => undefined);
      target.style.removeProperty('--oc-level');
    };
  }, [track, element]);
}

/** Samples between -1 and 1; 0 where nobody would hear them, 1 where a voice is loud. */
export function loudness(samples: Float32Array): number {
  let energy = 0;
  for (const sample of samples) energy += sample * sample;
  const decibels = 10 * Math.log10(energy / samples.length + 1e-12);
  return Math.min(1, Math.max(0, (decibels - QUIET_DB) / (LOUD_DB - QUIET_DB)));
}
