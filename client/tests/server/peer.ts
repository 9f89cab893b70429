import WebSocket from 'ws';
import type { TestServer } from '../browser/support/server';

/** The envelopes of the server, and which words a client has for what it sends. */
export type Dialect = 'opencall' | 'protoo (old)' | 'protoo (new)';

/** What is sent, in LiveKit's words. */
export type Source = 'camera' | 'microphone' | 'screen_share' | 'screen_share_audio';

export type Frame = Record<string, unknown>;

/** Stands for a number in a notation that JavaScript does not write, such as `90000.0`. */
export function notation(number: string): string {
  return `number:${number}`;
}

/** JSON with the numbers that {@link notation} stands for. */
export function jsonWithNotations(value: unknown): string {
  return JSON.stringify(value).replaceAll(/"number:([^"]*)"/g, '$1');
}

/** An answer: data, or code and reason. OpenCall's errors have no code. */
export interface Answer {
  data?: Frame;
  code?: number;
  reason?: string;
}

/** How the server refuses a WebSocket. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly body: { code: string; reason: string },
  ) {
    super(`${status} ${body.code}: ${body.reason}`);
  }
}

/** A participant in any dialect, without media of its own. */
export class Peer {
  readonly #socket: WebSocket;
  readonly #dialect: Dialect;
  readonly #heard: Frame[] = [];
  readonly #waiting = new Set<() => void>();
  #lastId = 0;
  #sends = '';

  private constructor(socket: WebSocket, dialect: Dialect) {
    this.#socket = socket;
    this.#dialect = dialect;
    socket.on('message', (text) => {
      const frame = JSON.parse(String(text)) as Frame;
      this.#heard.push(frame);
      if (frame.request === true) this.#say({ response: true, id: frame.id, ok: true, data: {} });
      for (const look of this.#waiting) look();
    });
  }

  /** Connects with a token; throws {@link Refused} if it is not let in. */
  static connect(
    server: TestServer,
    dialect: Dialect,
    {
      token,
      query = {},
      bearer = false,
    }: { token?: string | undefined; query?: Record<string, string>; bearer?: boolean },
  ): Promise<Peer> {
    const url = new URL(`${server.wsUrl}/ws`);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    if (token !== undefined && !bearer) url.searchParams.set('access_token', token);
    const headers = token !== undefined && bearer ? { authorization: `Bearer ${token}` } : {};
    const protocols = dialect === 'opencall' ? [] : ['protoo'];
    const socket = new WebSocket(url, protocols, { headers });
    const peer = new Peer(socket, dialect);
    return new Promise((resolve, reject) => {
      socket.once('open', () => resolve(peer));
      socket.once('error', reject);
      socket.once('unexpected-response', (_request, response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          const body = JSON.parse(Buffer.concat(chunks).toString());
          reject(new Refused(response.statusCode ?? 0, body));
        });
      });
    });
  }

  /** Makes both transports and enters the room, with the router's capabilities or these; who is there. */
  async join(displayName = 'Someone', ownCapabilities?: Frame): Promise<string[]> {
    const names = { capabilities: 'getRouterCapabilities', transport: 'createTransport' };
    if (this.#dialect !== 'opencall') {
      names.capabilities = 'getRouterRtpCapabilities';
      names.transport = 'createWebRtcTransport';
    }
    const { data = {} } = await this.ask(names.capabilities, {});
    const rtpCapabilities = ownCapabilities ?? data.routerRtpCapabilities ?? data;
    const sending = await this.ask(names.transport, this.#direction(true));
    await this.ask(names.transport, this.#direction(false));
    this.#sends = String(sending.data?.id);
    if (this.#dialect === 'opencall') {
      await this.ask('setRtpCapabilities', { rtpCapabilities, displayName });
      return this.heard('newParticipant').map(({ participantId }) => String(participantId));
    }
    const joined = await this.ask('join', { displayName, device: {}, rtpCapabilities });
    if (joined.reason) throw new Error(joined.reason);
    return ((joined.data?.peers ?? []) as Frame[]).map(({ id }) => String(id));
  }

  #direction(sends: boolean): Frame {
    switch (this.#dialect) {
      case 'opencall':
        return { direction: sends ? 'send' : 'recv' };
      case 'protoo (old)':
        return { producing: sends, consuming: !sends };
      case 'protoo (new)':
        return { appData: { direction: sends ? 'producer' : 'consumer' } };
    }
  }

  /** Sends a track, as this dialect's clients announce it. */
  produce(source: Source): Promise<Answer> {
    const kind = source === 'camera' || source === 'screen_share' ? 'video' : 'audio';
    const shares = source.startsWith('screen');
    const appData = {
      opencall: { source: shares ? 'screen' : kind === 'video' ? 'webcam' : 'microphone' },
      'protoo (old)': shares ? { share: true } : {},
      'protoo (new)': { source: shares ? 'screensharing' : kind },
    }[this.#dialect];
    this.#lastId += 1;
    const rtpParameters = kind === 'video' ? video(this.#lastId) : audio(this.#lastId);
    return this.produceWith(kind, rtpParameters, appData);
  }

  /** Sends a track with any parameters. */
  produceWith(kind: string, rtpParameters: unknown, appData: Frame = {}): Promise<Answer> {
    return this.ask('produce', { transportId: this.#sends, kind, rtpParameters, appData });
  }

  async ask(name: string, data: Frame): Promise<Answer> {
    this.#lastId += 1;
    const id = this.#dialect === 'opencall' ? String(this.#lastId) : this.#lastId;
    this.#say(
      this.#dialect === 'opencall'
        ? { type: `mediasoup:${name}`, id, data }
        : { request: true, id, method: name, data },
    );
    const isAnswer = (frame: Frame) =>
      frame.id === id &&
      (frame.response === true || frame.type === 'response' || frame.type === 'error');
    const frame = await this.#frame(name, isAnswer);
    if (frame.ok === true || frame.type === 'response') return { data: frame.data as Frame };
    const code = frame.errorCode as number | undefined;
    return { ...(code ? { code } : {}), reason: String(frame.errorReason ?? frame.error) };
  }

  /** The data of all events (or requests) of this name so far. */
  heard(name: string): Frame[] {
    const named = this.#heard.filter(
      ({ method, type }) => method === name || type === `mediasoup:${name}`,
    );
    return named.map(({ data }) => data as Frame);
  }

  /** Waits for an event (or request) of this name. */
  async event(name: string): Promise<Frame> {
    const frame = await this.#frame(
      name,
      ({ method, type }) => method === name || type === `mediasoup:${name}`,
    );
    return frame.data as Frame;
  }

  /** Waits until the server closes; its code. */
  closed(): Promise<number> {
    return new Promise((resolve) => this.#socket.once('close', resolve));
  }

  /** Leaves; resolves when the server has let go. */
  leave(): Promise<number> {
    const closed = this.closed();
    this.#socket.close();
    return closed;
  }

  #say(frame: Frame): void {
    this.#socket.send(jsonWithNotations(frame));
  }

  /** The first frame that fits, which has come or will come. */
  #frame(what: string, fits: (frame: Frame) => boolean): Promise<Frame> {
    return new Promise((resolve, reject) => {
      const end = (code: number) => reject(new Error(`closed with ${code} before ${what}`));
      const look = () => {
        const found = this.#heard.find(fits);
        if (!found) return;
        this.#waiting.delete(look);
        this.#socket.off('close', end);
        resolve(found);
      };
      this.#waiting.add(look);
      this.#socket.once('close', end);
      look();
    });
  }
}

const MID = { uri: 'urn:ietf:params:rtp-hdrext:sdes:mid', id: 4 };

function audio(number: number): Frame {
  return {
    mid: String(number),
    codecs: [
      { mimeType: 'audio/opus', payloadType: 111, clockRate: 48000, channels: 2, parameters: {} },
    ],
    headerExtensions: [MID],
    encodings: [{ ssrc: 1000 + number }],
    rtcp: { cname: 'node' },
  };
}

function video(number: number): Frame {
  return {
    mid: String(number),
    codecs: [{ mimeType: 'video/VP8', payloadType: 96, clockRate: 90000, parameters: {} }],
    headerExtensions: [MID],
    encodings: [{ ssrc: 1000 + number }],
    rtcp: { cname: 'node' },
  };
}
