/** The encryption worker: it alone has the keys and the counters, and every encoded frame passes through it. */
import { codecOf } from './codecs';
import { importSecret, safetyCode } from './keys';
import type {
  FrameCounts,
  FromWorker,
  ReceiveOptions,
  SendOptions,
  ToWorker,
  TransformOptions,
} from './messages';
import { type DropReason, Openers } from './opener';
import { Sealer } from './sealer';
import { TrackWatch } from './trackState';

/** The part of an encoded frame in use, audio or video. */
interface EncodedFrame {
  data: ArrayBuffer;
  getMetadata(): { mimeType?: string };
}

interface Transformer {
  readonly readable: ReadableStream<EncodedFrame>;
  readonly writable: WritableStream<EncodedFrame>;
  readonly options: TransformOptions;
}

/** The part of a worker's global scope in use. */
interface Scope {
  onmessage: (message: { data: ToWorker }) => void;
  onrtctransform: (event: { transformer: Transformer }) => void;
  postMessage(message: FromWorker): void;
}

const scope = self as unknown as Scope;
const openers = new Openers();
const dropped: Record<DropReason, number> = {
  'no-key': 0,
  malformed: 0,
  'not-authentic': 0,
  replayed: 0,
  'old-key': 0,
};
const counts = { sealed: 0, notSealed: 0, opened: 0 };
let sealer: Sealer | undefined;
let meetingId = '';
let secret: CryptoKey | undefined;
/**
 * An epoch of an MLS group is sealed under so much later than it is opened: the others take the same commit, and what
 * they cannot open yet they would miss.
 */
const SEAL_LATER_MS = 500;
/** Grows when what was to be sealed under later is not any more. */
let secretLife = 0;
/** One secret after the other, however long each takes. */
let secrets: Promise<void> = Promise.resolve();

scope.onmessage = ({ data: message }) => {
  switch (message.type) {
    case 'start':
      sealer = new Sealer(message.participantId);
      meetingId = message.meetingId;
      setInterval(() => sealer?.rotate(), message.rotateEveryMs);
      return scope.postMessage({ type: 'started', salt: sealer.salt });
    case 'secret':
      secrets = secrets.then(() => setSecret(message));
      return;
    case 'rotate':
      return sealer?.rotate();
    case 'code':
      void answerCode(message);
      return;
    case 'seal':
      void answerSealed(message);
      return;
    case 'open':
      void answerOpened(message);
      return;
    case 'counts':
      return answer(message.id, countFrames());
    case 'ping':
      return scope.postMessage({ type: 'pong' });
  }
};

scope.onrtctransform = ({ transformer }) => {
  const { options, readable, writable } = transformer;
  const transform = options.direction === 'send' ? sealing(options) : opening(options);
  // It ends with its track; what cannot be written any more need not be.
  readable
    .pipeThrough(new TransformStream({ transform }))
    .pipeTo(writable)
    .catch(() => undefined);
};

/** A frame that is not given on is dropped: nothing leaves in the clear, and nothing undecipherable is played. */
type Transform = (
  frame: EncodedFrame,
  next: TransformStreamDefaultController<EncodedFrame>,
) => Promise<void>;

function sealing({ source, codec }: SendOptions): Transform {
  return async (frame, next) => {
    // Audio encoders emit empty frames for silence; unencrypted, no packet carries them either.
    if (frame.data.byteLength === 0) return;
    const sealed = await seal(frame, source, codec).catch(() => undefined);
    if (!sealed) {
      counts.notSealed += 1;
      return;
    }
    counts.sealed += 1;
    frame.data = sealed.buffer;
    next.enqueue(frame);
  };
}

async function seal(frame: EncodedFrame, source: string, codec: SendOptions['codec']) {
  const { mimeType } = frame.getMetadata();
  // Where the browser names a frame's codec, it must be the negotiated one.
  if (mimeType !== undefined && codecOf(mimeType) !== codec) return undefined;
  return sealer?.seal(source, codec, new Uint8Array(frame.data));
}

function opening({ trackId, codec, ...stream }: ReceiveOptions): Transform {
  const opener = openers.of(stream);
  const watch = new TrackWatch();
  return async (frame, next) => {
    const data = new Uint8Array(frame.data);
    const opened = await opener
      .open(codec, data, performance.now())
      .catch(() => ({ drop: 'malformed' as const }));
    const state = watch.note(opened);
    if (state) scope.postMessage({ type: 'state', trackId, state });
    if ('drop' in opened) {
      dropped[opened.drop] += 1;
      return;
    }
    counts.opened += 1;
    frame.data = opened.frame.buffer;
    next.enqueue(frame);
  };
}

async function setSecret({ id, secret: given, stream }: Extract<ToWorker, { type: 'secret' }>) {
  // Without a secret nothing is sent: what cannot be imported is none.
  const imported = given && (await importSecret(given, meetingId).catch(() => undefined));
  if (stream) {
    openers.of(stream).setSecret(imported, performance.now());
    return answer(id, undefined);
  }
  const tag = given?.kind === 'epoch' ? given.tag : undefined;
  const isFirst = secret === undefined;
  secret = imported;
  openers.secrets.set(secret, performance.now(), tag);
  if (imported && tag !== undefined && !isFirst) {
    const life = secretLife;
    setTimeout(() => life === secretLife && sealer?.setSecret(imported, tag), SEAL_LATER_MS);
  } else {
    secretLife += 1;
    sealer?.setSecret(secret, tag);
  }
  answer(id, undefined);
}

async function answerCode({ id, members }: Extract<ToWorker, { type: 'code' }>) {
  answer(id, secret && (await safetyCode(secret, members).catch(() => undefined)));
}

async function answerSealed({ id, source, message }: Extract<ToWorker, { type: 'seal' }>) {
  const sealed = await sealer?.sealMessage(source, message).catch(() => undefined);
  if (sealed) counts.sealed += 1;
  else counts.notSealed += 1;
  answer(id, sealed);
}

async function answerOpened({ id, stream, message }: Extract<ToWorker, { type: 'open' }>) {
  const opened = await openers
    .of(stream)
    .openMessage(message, performance.now())
    .catch(() => ({ drop: 'malformed' as const }));
  if ('drop' in opened) dropped[opened.drop] += 1;
  else counts.opened += 1;
  answer(id, opened);
}

function countFrames(): FrameCounts {
  return { ...counts, dropped, epoch: Number(sealer?.epoch ?? 0n) };
}

function answer(id: number, value: unknown): void {
  scope.postMessage({ type: 'answer', id, value });
}
