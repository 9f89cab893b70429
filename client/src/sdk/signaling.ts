import { backoffDelayMs } from './backoff';
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
 * someone who is there has this id, the room is locked, no host lets this client in.
 */
export const FINAL_CLOSE_CODES: readonly number[] = [4000, 4003, 4004, 4005];

/** Those that a client hears that never was inside. */
export const REFUSING_CLOSE_CODES: readonly number[] = [4004, 4005];

/** Close codes that say that the connection ended and not what was on it: none at all, and "you were not heard". */
const RESUMABLE_CLOSE_CODES: readonly number[] = [1006, 1013];

/** With this code a client ends a connection that it will resume on another; the server keeps its session. */
const RESUMING_CODE = 4900;

/** The server keeps a session for 30 s; after this the next attempt would come too late. */
const RESUME_WITHIN_MS = 28_000;

/** How long the server may take to hand a session over. */
const RESUME_TIMEOUT_MS = 5_000;

/** What a channel says by itself. */
export interface ChannelEvents {
  event: {
    [Name in keyof ServerEvents]: { name: Name; data: ServerEvents[Name] };
  }[keyof ServerEvents];
  close: { code: number; reason: string };
  /** The connection was lost (`true`), and is made anew with the same session; or it stands again. */
  interrupted: boolean;
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
  /** Leaves a connection that carries nothing any more and makes another; `false` if this channel cannot. */
  interrupt?(): boolean;
  /** What would resume its session on another connection. */
  readonly resumeToken?: string | undefined;
}

/** How to connect. */
export interface ChannelOptions {
  /** A join token. */
  token?: string | undefined;
  /** Of a session of this participant that is given up: it ends, so that the new one is not taken for a stranger's. */
  replaces?: string | undefined;
}

/** Who speaks; every request carries it. */
export interface Identity {
  meetingId: string;
  participantId: string;
}

interface Pending {
  name: keyof Requests;
  data: object;
  /** Its number among all frames sent; `undefined` while there is no connection to send it on. */
  frame: number | undefined;
  resolve: (value: unknown) => void;
  reject: (error: MeetingError) => void;
  timer: ReturnType<typeof setTimeout>;
}

/**
 * The OpenCall envelope over a WebSocket. Once the server has given it a token it outlives lost connections: it resumes its
 * session on another, what either side has missed is sent again, and what is asked meanwhile waits.
 */
export class WebSocketChannel implements SignalingChannel {
  readonly #url: string;
  readonly #token: string | undefined;
  readonly #identity: Identity;
  readonly #emitter = new Emitter<ChannelEvents>();
  readonly #pending = new Map<string, Pending>();
  #socket: WebSocket | undefined;
  #resumeToken: string | undefined;
  #lastId = 0;
  /** Text frames of this session, on all its connections: what a resumption goes by. */
  #sent = 0;
  #received = 0;
  #isOver = false;
  /** The server has this client wait until a host lets it in. */
  #isWaiting = false;

  private constructor(url: string, token: string | undefined, identity: Identity) {
    this.#url = withToken(url, token);
    this.#token = token;
    this.#identity = identity;
  }

  /** Opens a connection; rejects if the server cannot be reached, or does not take the token. */
  static async open(
    url: string,
    identity: Identity,
    { token, replaces }: ChannelOptions = {},
  ): Promise<WebSocketChannel> {
    const channel = new WebSocketChannel(url, token, identity);
    channel.#attach(await connect(channel.#url, url, token));
    if (replaces) void channel.request('forget', { resumeToken: replaces }).catch(() => undefined);
    return channel;
  }

  get resumeToken(): string | undefined {
    return this.#resumeToken;
  }

  async request<Name extends keyof Requests>(
    name: Name,
    data: Requests[Name]['data'],
    { timeoutMs = REQUEST_TIMEOUT_MS }: { timeoutMs?: number } = {},
  ): Promise<Requests[Name]['answer']> {
    if (this.#isOver) throw connectionLost();
    this.#lastId += 1;
    const id = String(this.#lastId);
    const answer = await new Promise<unknown>((resolve, reject) => {
      const expire = () => {
        // In front of a locked room all that is asked waits for a person.
        if (this.#isWaiting) pending.timer = setTimeout(expire, timeoutMs);
        else {
          this.#pending.delete(id);
          reject(new MeetingError('request-timed-out', 'The meeting server does not answer.'));
        }
      };
      const timer = setTimeout(expire, timeoutMs);
      const pending: Pending = { name, data, frame: undefined, resolve, reject, timer };
      this.#pending.set(id, pending);
      this.#send(id, pending);
    });
    const { resumeToken } = (answer ?? {}) as { resumeToken?: unknown };
    if (name === 'setRtpCapabilities' && typeof resumeToken === 'string') {
      this.#resumeToken = resumeToken;
    }
    return answer;
  }

  on<Name extends keyof ChannelEvents>(
    name: Name,
    listener: (value: ChannelEvents[Name]) => void,
  ): () => void {
    return this.#emitter.on(name, listener);
  }

  close(): void {
    this.#isOver = true;
    this.#socket?.close(1000);
  }

  interrupt(): boolean {
    if (!this.#resumeToken || this.#isOver) return false;
    const socket = this.#socket;
    if (!socket) return true;
    detach(socket);
    socket.close(RESUMING_CODE);
    this.#interrupted();
    return true;
  }

  #attach(socket: WebSocket): void {
    this.#socket = socket;
    socket.onmessage = (message) => this.#receive(message.data);
    socket.onclose = ({ code, reason }) => {
      const mayResume = this.#resumeToken && !this.#isOver && RESUMABLE_CLOSE_CODES.includes(code);
      if (mayResume) this.#interrupted();
      else this.#end(code, reason);
    };
  }

  #send(id: string, pending: Pending): void {
    if (this.#socket?.readyState !== WebSocket.OPEN) {
      // Of a connection that is being closed nobody has told us yet; without a session to resume that is all.
      if (!this.#resumeToken) {
        clearTimeout(pending.timer);
        this.#pending.delete(id);
        pending.reject(connectionLost());
      }
      return;
    }
    this.#sent += 1;
    pending.frame = this.#sent;
    const { name, data } = pending;
    // With each ping the server hears what it need not keep any more.
    const all = name === 'ping' ? { received: this.#received } : { ...this.#identity, ...data };
    this.#socket.send(encodeRequest(name, id, all));
  }

  #receive(text: unknown): void {
    if (typeof text !== 'string') return;
    this.#received += 1;
    const frame = decodeFrame(text);
    if (!frame) return;
    if (frame.type === 'event') {
      if (frame.name === 'waiting') this.#isWaiting = true;
      if (frame.name === 'admitted') this.#isWaiting = false;
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
    // About another session: in this one the server does not count its answer.
    if (pending.name === 'forget') this.#received -= 1;
    if (frame.type === 'response') pending.resolve(frame.data);
    else pending.reject(new MeetingError('request-refused', frame.error, { reason: frame.error }));
  }

  #interrupted(): void {
    this.#socket = undefined;
    // An unanswered ping asks nothing of the next connection.
    for (const [id, { name, timer }] of this.#pending) {
      if (name !== 'ping') continue;
      clearTimeout(timer);
      this.#pending.delete(id);
    }
    this.#emitter.emit('interrupted', true);
    void this.#resume();
  }

  /** Makes connections until the session goes on, or is known to be over. */
  async #resume(): Promise<void> {
    const deadline = Date.now() + RESUME_WITHIN_MS;
    let reason = 'the session could not be resumed in time';
    for (let attempt = 0; ; attempt += 1) {
      await online(this.#isOver ? 0 : (backoffDelayMs(attempt) ?? 0));
      if (Date.now() > deadline) break;
      const socket = await connect(this.#url, this.#url, this.#token).catch(() => undefined);
      const answer = socket && (await this.#claim(socket));
      if (answer === 'resumed' && !this.#isOver) return;
      if (socket) detach(socket);
      // Whoever has left meanwhile says goodbye with what was claimed, or not at all. Where only the answer was lost, the
      // session goes on: it is asked for again, with the token before.
      socket?.close(answer === undefined && !this.#isOver ? RESUMING_CODE : 1000);
      if (this.#isOver) return this.#end(1000, '');
      if (answer === undefined) continue;
      reason = answer;
      break;
    }
    this.#end(1006, reason);
  }

  /** Asks for the session: `resumed`, the words of the refusal, or `undefined` if nobody answers. */
  #claim(socket: WebSocket): Promise<string | undefined> {
    const data = {
      ...this.#identity,
      resumeToken: this.#resumeToken,
      received: this.#received,
    };
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(undefined), RESUME_TIMEOUT_MS);
      socket.onclose = () => {
        clearTimeout(timer);
        resolve(undefined);
      };
      socket.onmessage = (message) => {
        clearTimeout(timer);
        const frame = typeof message.data === 'string' ? decodeFrame(message.data) : undefined;
        if (frame?.type === 'error') return resolve(frame.error);
        const { resumeToken, received } = ((frame?.type === 'response' && frame.data) ?? {}) as {
          resumeToken?: unknown;
          received?: unknown;
        };
        if (typeof resumeToken !== 'string' || typeof received !== 'number') {
          return resolve('the server did not understand');
        }
        // What follows in the same breath belongs to the session.
        this.#resumeToken = resumeToken;
        if (!this.#isOver) this.#goOn(socket, received);
        resolve('resumed');
      };
      socket.send(encodeRequest('resume', 'resume', data));
    });
  }

  #goOn(socket: WebSocket, received: number): void {
    this.#attach(socket);
    this.#sent = received;
    const unheard = [...this.#pending].filter(([, { frame = Infinity }]) => frame > received);
    // What the server has heard it answers, or has answered in what it sends again.
    for (const [id, pending] of unheard) this.#send(id, pending);
    this.#emitter.emit('interrupted', false);
  }

  #end(code: number, reason: string): void {
    this.#isOver = true;
    this.#socket = undefined;
    for (const pending of this.#pending.values()) {
      clearTimeout(pending.timer);
      pending.reject(connectionLost());
    }
    this.#pending.clear();
    this.#emitter.emit('close', { code, reason });
    this.#emitter.clear();
  }
}

/** An open socket; rejects with words if there is none to be had. */
function connect(address: string, url: string, token: string | undefined): Promise<WebSocket> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(address);
    const giveUp = (error: MeetingError) => {
      clearTimeout(timer);
      detach(socket);
      socket.close();
      reject(error);
    };
    const timer = setTimeout(() => giveUp(unreachable()), OPEN_TIMEOUT_MS);
    socket.onclose = () => {
      clearTimeout(timer);
      void explainRefusal(url, token).then(giveUp);
    };
    socket.onopen = () => {
      clearTimeout(timer);
      detach(socket);
      resolve(socket);
    };
  });
}

function detach(socket: WebSocket): void {
  socket.onopen = null;
  socket.onclose = null;
  socket.onmessage = null;
}

/** Waits so long, but not while the browser says that there is a network again. */
function online(delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      globalThis.removeEventListener?.('online', done);
      resolve();
    };
    const timer = setTimeout(done, delayMs);
    globalThis.addEventListener?.('online', done);
  });
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
      ? new MeetingError('token-refused', `You cannot enter: ${reason}.`, { reason })
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
