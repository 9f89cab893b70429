import { Emitter } from './emitter';
import { MeetingError } from './errors';
import { decodeFrame, encodeRequest, type Requests, type ServerEvents } from './protocol';
import { withToken } from './token';

/** As long as OpenCall's own client waits for an answer. */
const REQUEST_TIMEOUT_MS = 30_000;

/** A connection that does not open within this long is tried anew. */
const OPEN_TIMEOUT_MS = 8_000;

/** How long the server may take to say why it refused. */
const REASON_TIMEOUT_MS = 3_000;

/**
 * The server's close codes for "do not come back": someone took this place or an administrator removed this client,
 * someone who is there has this id, the room is locked.
 */
export const FINAL_CLOSE_CODES: readonly number[] = [4000, 4003, 4004];

/** What a channel says by itself. */
export interface ChannelEvents {
  event: {
    [Name in keyof ServerEvents]: { name: Name; data: ServerEvents[Name] };
  }[keyof ServerEvents];
  close: { code: number; reason: string };
}

/** The way to the server; anything that carries requests and events will do. */
export interface SignalingChannel {
  request<Name extends keyof Requests>(
    name: Name,
    data: Requests[Name]['data'],
    options?: { timeoutMs?: number },
  ): Promise<Requests[Name]['answer']>;
  on<Name extends keyof ChannelEvents>(
    name: Name,
    listener: (value: ChannelEvents[Name]) => void,
  ): () => void;
  close(): void;
}

/** Who speaks; every request carries it. */
export interface Identity {
  meetingId: string;
  participantId: string;
}

interface Pending {
  resolve: (value: unknown) => void;
  reject: (error: MeetingError) => void;
  timer: ReturnType<typeof setTimeout>;
}

/** The OpenCall envelope over a WebSocket. */
export class WebSocketChannel implements SignalingChannel {
  readonly #socket: WebSocket;
  readonly #identity: Identity;
  readonly #emitter = new Emitter<ChannelEvents>();
  readonly #pending = new Map<string, Pending>();
  #lastId = 0;

  private constructor(socket: WebSocket, identity: Identity) {
    this.#socket = socket;
    this.#identity = identity;
    socket.onmessage = (message) => this.#receive(message.data);
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
  }

  /** Opens a connection; rejects if the server cannot be reached, or does not take the token. */
  static open(url: string, identity: Identity, token?: string): Promise<WebSocketChannel> {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(withToken(url, token));
      const giveUp = (error: MeetingError) => {
        clearTimeout(timer);
        socket.onopen = null;
        socket.onclose = null;
        socket.close();
        reject(error);
      };
      const fail = () => giveUp(unreachable());
      const timer = setTimeout(fail, OPEN_TIMEOUT_MS);
      socket.onclose = () => {
        clearTimeout(timer);
        void explainRefusal(url, token).then(giveUp);
      };
      socket.onopen = () => {
        clearTimeout(timer);
        resolve(new WebSocketChannel(socket, identity));
      };
    });
  }

  request<Name extends keyof Requests>(
    name: Name,
    data: Requests[Name]['data'],
    { timeoutMs = REQUEST_TIMEOUT_MS }: { timeoutMs?: number } = {},
  ): Promise<Requests[Name]['answer']> {
    if (this.#socket.readyState !== WebSocket.OPEN) return Promise.reject(connectionLost());
    this.#lastId += 1;
    const id = String(this.#lastId);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(new MeetingError('request-timed-out', 'The meeting server does not answer.'));
      }, timeoutMs);
      this.#pending.set(id, { resolve, reject, timer });
      this.#socket.send(encodeRequest(name, id, { ...this.#identity, ...data }));
    });
  }

  on<Name extends keyof ChannelEvents>(
    name: Name,
    listener: (value: ChannelEvents[Name]) => void,
  ): () => void {
    return this.#emitter.on(name, listener);
  }

  close(): void {
    this.#socket.close(1000);
  }

  #receive(text: unknown): void {
    if (typeof text !== 'string') return;
    const frame = decodeFrame(text);
    if (!frame) return;
    if (frame.type === 'event') {
      this.#emitter.emit('event', frame as unknown as ChannelEvents['event']);
      return;
    }
    if (frame.id === undefined) {
      console.warn('opencall: the server says', frame.type === 'error' ? frame.error : frame);
      return;
    }
    const pending = this.#pending.get(frame.id);
    if (!pending) return;
    this.#pending.delete(frame.id);
    clearTimeout(pending.timer);
    if (frame.type === 'response') pending.resolve(frame.data);
    else pending.reject(new MeetingError('request-refused', frame.error));
  }

  #closed(code: number, reason: string): void {
    for (const pending of this.#pending.values()) {
      clearTimeout(pending.timer);
      pending.reject(connectionLost());
    }
    this.#pending.clear();
    this.#emitter.emit('close', { code, reason });
    this.#emitter.clear();
  }
}

/** The address of the server this page came from. */
export function sameOriginUrl(location: { protocol: string; host: string }): string {
  const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
  return `${scheme}//${location.host}/ws`;
}

/**
 * Browsers do not say why a WebSocket was refused. The same address without an upgrade tells what is wrong with the
 * token, if something is.
 */
async function explainRefusal(url: string, token: string | undefined): Promise<MeetingError> {
  try {
    const answer = await fetch(url.replace(/^ws/, 'http'), {
      headers: token ? { authorization: `Bearer ${token}` } : {},
      credentials: 'omit',
      signal: AbortSignal.timeout(REASON_TIMEOUT_MS),
    });
    if (answer.status !== 401 && answer.status !== 403) return unreachable();
    const { code, reason } = await answer.json();
    if (code === 'missing_token') {
      return new MeetingError(
        'token-refused',
        'This meeting wants an invitation of your own. Open the link that you were given.',
      );
    }
    return typeof reason === 'string'
      ? new MeetingError('token-refused', `You cannot enter: ${reason}.`)
      : unreachable();
  } catch {
    return unreachable();
  }
}

function unreachable(): MeetingError {
  return new MeetingError('server-unreachable', 'The meeting server cannot be reached.');
}

/** What whoever waits is told when the connection is gone. */
export function connectionLost(): MeetingError {
  return new MeetingError('server-gone', 'The connection to the meeting server was lost.');
}
