/**
 * How continuous a video is in its own time, by the RTP timestamps of its frames. A busy machine encodes, decodes and shows
 * late, which changes no timestamp; a frame that is lost, withheld or cannot be decoded leaves a gap on any machine.
 */

/** Frames since it was last asked. */
export interface Continuity {
  frames: number;
  /** Of the video's own time, from the last frame before to the last one. */
  spanMs: number;
  /** The longest between two frames that follow each other. */
  longestGapMs: number;
}

/** RTP's clock for video, RFC 3551 §5. */
const TICKS_PER_MS = 90;

/** The frames of one stream. */
export class Timeline {
  #last: number | undefined;
  #frames = 0;
  #ticks = 0;
  #longestTicks = 0;

  note(timestamp: number): void {
    // Modulo 2³², as a signed difference.
    const ticks = this.#last === undefined ? 0 : (timestamp - this.#last) | 0;
    this.#longestTicks = Math.max(this.#longestTicks, ticks);
    this.#ticks += ticks;
    this.#frames += 1;
    this.#last = timestamp;
  }

  take(): Continuity {
    const taken = {
      frames: this.#frames,
      spanMs: this.#ticks / TICKS_PER_MS,
      longestGapMs: this.#longestTicks / TICKS_PER_MS,
    };
    this.#frames = 0;
    this.#ticks = 0;
    this.#longestTicks = 0;
    return taken;
  }
}

/** Tells the page of each encoded frame, and lets it pass. */
const WORKER = `self.onrtctransform = ({ transformer: { readable, writable, options } }) => {
  const note = new TransformStream({
    transform(frame, next) {
      const { rtpTimestamp, synchronizationSource } = frame.getMetadata();
      const data = options.keeps ? frame.data.slice(0) : undefined;
      postMessage({ stream: options.stream, timestamp: rtpTimestamp, ssrc: synchronizationSource, data });
      next.enqueue(frame);
    },
  });
  readable.pipeThrough(note).pipeTo(writable).catch(() => {});
};`;

interface Encoded {
  stream: number;
  timestamp: number;
  ssrc: number;
  data?: ArrayBuffer;
}

let worker: Worker | undefined;
const listeners = new Map<number, (encoded: Encoded) => void>();

/** Follows the frames that a sender encodes, by SSRC. To be called before it is negotiated. */
export function followEncoded(sender: RTCRtpSender): Map<number, Timeline> {
  worker ??= startWorker();
  const timelines = new Map<number, Timeline>();
  const stream = listeners.size;
  listeners.set(stream, ({ ssrc, timestamp }) => {
    const timeline = timelines.get(ssrc) ?? new Timeline();
    timelines.set(ssrc, timeline);
    timeline.note(timestamp);
  });
  sender.transform = new RTCRtpScriptTransform(worker, { stream });
  return timelines;
}

/** Encoded frames of a received track, as they came. */
export interface RecordedFrames {
  frames: ArrayBuffer[];
}

/** More than any test looks at. */
const MAX_RECORDED_FRAMES = 2_000;

/** Keeps the first frames that a receiver gets. To be called before it is negotiated. */
export function recordFrames(receiver: RTCRtpReceiver): RecordedFrames {
  worker ??= startWorker();
  const recorded: RecordedFrames = { frames: [] };
  const stream = listeners.size;
  listeners.set(stream, ({ data }) => {
    if (data && recorded.frames.length < MAX_RECORDED_FRAMES) recorded.frames.push(data);
  });
  receiver.transform = new RTCRtpScriptTransform(worker, { stream, keeps: true });
  return recorded;
}

function startWorker(): Worker {
  const started = new Worker(URL.createObjectURL(new Blob([WORKER])));
  started.onmessage = ({ data }: MessageEvent<Encoded>) => listeners.get(data.stream)?.(data);
  return started;
}

// Chromium's; there are no types yet.
declare const MediaStreamTrackProcessor: new (options: {
  track: MediaStreamTrack;
  maxBufferSize: number;
}) => { readable: ReadableStream<VideoFrame & { metadata(): { rtpTimestamp?: number } }> };

/** Frames that may wait for a busy page before the oldest is dropped: seconds. */
const MAX_WAITING_FRAMES = 60;

/** Follows the frames of a received track as they come out of the decoder. Chromium only. */
export function followDecoded(track: MediaStreamTrack): Timeline {
  const timeline = new Timeline();
  const { readable } = new MediaStreamTrackProcessor({ track, maxBufferSize: MAX_WAITING_FRAMES });
  const note = new WritableStream<VideoFrame & { metadata(): { rtpTimestamp?: number } }>({
    write(frame) {
      const { rtpTimestamp } = frame.metadata();
      frame.close();
      if (rtpTimestamp === undefined) throw new Error('a decoded frame without its timestamp');
      timeline.note(rtpTimestamp);
    },
  });
  readable.pipeTo(note).catch((error) => console.error(`frames are not followed: ${error}`));
  return timeline;
}
