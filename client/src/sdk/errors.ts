import type { Source } from './participants';

/** What went wrong, for programs. */
export type MeetingErrorCode =
  | 'device-denied'
  | 'device-missing'
  | 'device-busy'
  | 'device-lost'
  | 'insecure-page'
  | 'server-unreachable'
  | 'server-gone'
  | 'request-refused'
  | 'muted-by-host'
  | 'request-timed-out'
  | 'sent-away'
  | 'token-refused'
  | 'media-unsupported'
  | 'encryption-unsupported'
  | 'encryption-failed'
  | 'unexpected';

/** What an error in another language says besides its code. */
export interface ErrorFacts {
  /** The device or screen it is about. */
  source?: Source;
  /** The server's or the browser's own words; of a lost device, the name of the one that is used instead. */
  reason?: string;
}

/** An error whose message is written for the person in the meeting. */
export class MeetingError extends Error {
  override readonly name = 'MeetingError';
  readonly facts: ErrorFacts;

  constructor(
    readonly code: MeetingErrorCode,
    message: string,
    options: ErrorOptions & ErrorFacts = {},
  ) {
    const { source, reason, ...others } = options;
    super(message, others);
    this.facts = { ...(source ? { source } : {}), ...(reason ? { reason } : {}) };
  }
}

const DEVICE_NAMES: Record<Source, string> = {
  camera: 'camera',
  microphone: 'microphone',
  screen: 'screen',
  screenAudio: 'screen’s sound',
};

/** Puts what the browser says about a device into plain words. */
export function explainDeviceError(error: unknown, source: Source): MeetingError {
  if (error instanceof MeetingError) return error;
  const device = DEVICE_NAMES[source];
  const options = { cause: error, source };
  const name = error instanceof Error || isNamed(error) ? error.name : '';
  switch (name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return new MeetingError(
        'device-denied',
        source === 'screen'
          ? 'The screen was not shared: permission was not given.'
          : `Your browser does not let this page use your ${device}. Allow it in the address bar, then try again.`,
        options,
      );
    case 'NotFoundError':
    case 'OverconstrainedError':
      return new MeetingError(
        'device-missing',
        `No ${device} was found. Plug one in, or go on without it.`,
        options,
      );
    case 'NotReadableError':
    case 'AbortError':
      return new MeetingError(
        'device-busy',
        `Your ${device} could not be started. Another program may be using it.`,
        options,
      );
    default:
      return asMeetingError(error);
  }
}

/** Makes a `MeetingError` of anything thrown. */
export function asMeetingError(error: unknown): MeetingError {
  if (error instanceof MeetingError) return error;
  const text = error instanceof Error ? error.message : String(error);
  return new MeetingError('unexpected', `Something went wrong: ${text}`, {
    cause: error,
    reason: text,
  });
}

function isNamed(value: unknown): value is { name: string } {
  return (
    typeof value === 'object' && value !== null && 'name' in value && typeof value.name === 'string'
  );
}
