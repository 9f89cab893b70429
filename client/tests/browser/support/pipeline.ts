import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { promisify } from 'node:util';
import type { TestServer } from './server';
import { ceilingMs, until } from './wait';

/** A key of administrators, and how the server is told of it. */
const SECRET = 'an admin secret for tests of 32 bytes';
export const ADMIN_FLAG = `--admin-key=tests=${SECRET}`;

export const SUITE = 'AES_CM_128_HMAC_SHA1_80';

/** Where a pipeline is reached, as the server says it. */
export interface PlainTransport {
  id: string;
  ip: string;
  port: number;
  rtcpPort?: number;
  srtpParameters?: { cryptoSuite: string; keyBase64: string };
}

/** What a pipeline is sent. */
export interface PlainConsumer {
  rtpParameters: {
    codecs: { mimeType: string; payloadType: number; clockRate: number; channels?: number }[];
  };
}

/** What a pipeline is to be sent as ffmpeg reads it, and what has it sent. */
export interface Watched {
  sdp: string;
  connect: () => Promise<void>;
}

/** What mediasoup-demo's scripts say of what ffmpeg will send. */
const SENT = {
  audio: {
    codec: {
      mimeType: 'audio/opus',
      payloadType: 100,
      clockRate: 48000,
      channels: 2,
      parameters: { 'sprop-stereo': 1 },
    },
    ssrc: 1111,
  },
  video: { codec: { mimeType: 'video/vp8', payloadType: 101, clockRate: 90000 }, ssrc: 2222 },
};

/** What ffmpeg can receive. */
const RECEIVED = {
  codecs: [
    {
      kind: 'audio',
      mimeType: 'audio/opus',
      clockRate: 48000,
      channels: 2,
      preferredPayloadType: 100,
    },
    {
      kind: 'video',
      mimeType: 'video/VP8',
      clockRate: 90000,
      preferredPayloadType: 101,
      rtcpFeedback: [{ type: 'nack', parameter: 'pli' }],
    },
  ],
};

const KINDS = ['audio', 'video'] as const;

/** A broadcaster in a room, as the HTTP API has it. */
export class Broadcaster {
  readonly #url: string;

  private constructor(url: string) {
    this.#url = url;
  }

  static async begin(server: TestServer, room: string, id: string): Promise<Broadcaster> {
    const all = `${server.httpUrl}/rooms/${room}/broadcasters`;
    const device = { name: 'FFmpeg' };
    await post(all, { id, displayName: 'Broadcaster', device, rtpCapabilities: RECEIVED });
    return new Broadcaster(`${all}/${id}`);
  }

  /** Produces sound and pictures; ffmpeg's arguments that send them, and the producers' ids. */
  async publish(key?: string): Promise<{ flags: string[]; audio: string; video: string }> {
    const flags: string[] = [];
    const ids = { audio: '', video: '' };
    for (const kind of KINDS) {
      const { codec, ssrc } = SENT[kind];
      const to = await this.#transport({ comedia: true, enableSrtp: key !== undefined });
      const keys = { srtpParameters: { cryptoSuite: SUITE, keyBase64: key } };
      if (key) await this.#on(to, 'connect', keys);
      const rtpParameters = { codecs: [codec], encodings: [{ ssrc }] };
      ids[kind] = (await this.#on<{ id: string }>(to, 'producers', { kind, rtpParameters })).id;
      const srtp = key ? ['-srtp_out_suite', SUITE, '-srtp_out_params', key] : [];
      const numbers = ['-ssrc', `${ssrc}`, '-payload_type', `${codec.payloadType}`];
      const url = `${key ? 'srtp' : 'rtp'}://${to.ip}:${to.port}?rtcpport=${to.rtcpPort}&pkt_size=1200`;
      flags.push(...ENCODED[kind], '-f', 'rtp', ...numbers, ...srtp, url);
    }
    return { flags, ...ids };
  }

  /** Consumes these producers, to be sent to free ports: an SDP file of them, and what lets it begin. */
  async watch(producers: { audio: string; video: string }, srtp: boolean): Promise<Watched> {
    const lines = ['v=0', 'o=- 0 0 IN IP4 127.0.0.1', 's=-', 'c=IN IP4 127.0.0.1', 't=0 0'];
    const ways: { from: PlainTransport; port: number }[] = [];
    for (const kind of KINDS) {
      const from = await this.#transport({ comedia: false, enableSrtp: srtp });
      const port = await freePairOfPorts();
      ways.push({ from, port });
      const consume = { producerId: producers[kind] };
      const consumer = await this.#on<PlainConsumer>(from, 'consume', consume);
      const codec = consumer.rtpParameters.codecs[0];
      if (!codec) throw new Error('a consumer has a codec');
      const name = [codec.mimeType.split('/')[1], codec.clockRate, codec.channels].filter(Boolean);
      lines.push(
        `m=${kind} ${port} RTP/${srtp ? 'SAVP' : 'AVP'} ${codec.payloadType}`,
        `a=rtpmap:${codec.payloadType} ${name.join('/')}`,
        ...(srtp ? [`a=crypto:1 ${SUITE} inline:${from.srtpParameters?.keyBase64}`] : []),
      );
    }
    const keyBase64 = Buffer.alloc(30, 7).toString('base64');
    const srtpParameters = srtp ? { cryptoSuite: SUITE, keyBase64 } : undefined;
    const connect = async () => {
      for (const { from, port } of ways) {
        await until(
          'ffmpeg listens',
          () => isFree(port),
          (free) => !free,
        );
        const to = { ip: '127.0.0.1', port, rtcpPort: port + 1 };
        await this.#on(from, 'connect', { ...to, srtpParameters });
      }
    };
    return { sdp: `${lines.join('\n')}\n`, connect };
  }

  async end(): Promise<number> {
    const { status } = await fetch(this.#url, { method: 'DELETE', headers: HEADERS });
    return status;
  }

  #transport(options: { comedia: boolean; enableSrtp: boolean }): Promise<PlainTransport> {
    return post(`${this.#url}/transports`, { type: 'plain', rtcpMux: false, ...options });
  }

  #on<T>({ id }: PlainTransport, action: string, body: object): Promise<T> {
    return post(`${this.#url}/transports/${id}/${action}`, body);
  }
}

const HEADERS = { authorization: `Bearer ${SECRET}`, 'content-type': 'application/json' };

async function post<T>(url: string, body: object): Promise<T> {
  const response = await fetch(url, {
    method: 'POST',
    headers: HEADERS,
    body: JSON.stringify(body),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${url}: ${response.status} ${text}`);
  return JSON.parse(text);
}

/** A test picture and a tone, as ffmpeg encodes them. */
const ENCODED = {
  audio: ['-map', '0:a', '-c:a', 'libopus', '-b:a', '64k', '-ac', '2', '-ar', '48000'],
  video: [
    ...['-map', '1:v', '-pix_fmt', 'yuv420p', '-c:v', 'libvpx', '-b:v', '500k', '-g', '15'],
    ...['-deadline', 'realtime', '-cpu-used', '8'],
  ],
};

/** ffmpeg sending a tone and a test picture. */
export class FfmpegSource {
  readonly #process: ChildProcess;
  #said = '';

  constructor(flags: string[]) {
    const inputs = ['sine=frequency=440', 'testsrc=size=320x240:rate=15'];
    const sources = inputs.flatMap((input) => ['-re', '-f', 'lavfi', '-i', input]);
    const all = ['-nostdin', '-v', 'error', ...sources, ...flags];
    this.#process = spawn('ffmpeg', all, { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#process.stderr?.on('data', (text) => {
      this.#said += text;
    });
  }

  /** What it has complained of. */
  get said(): string {
    return this.#said;
  }

  async stop(): Promise<void> {
    const { exitCode } = this.#process;
    if (exitCode !== null) throw new Error(`ffmpeg has ended with ${exitCode}: ${this.#said}`);
    const ended = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.kill('SIGKILL');
    await ended;
  }
}

/**
 * Decodes so many pictures of what is watched, and the sound beside them; what was wrong with them. It listens before
 * anything is sent, so that the key frame with which that begins is not missed.
 */
export async function decode({ sdp, connect }: Watched, pictures: number): Promise<string> {
  const input = `data:application/sdp;base64,${Buffer.from(sdp).toString('base64')}`;
  const protocols = ['-protocol_whitelist', 'data,rtp,udp,srtp', '-f', 'sdp'];
  const begin = ['-analyzeduration', '1000000', '-i', input];
  const asked = ['-map', '0:v', '-frames:v', `${pictures}`, '-map', '0:a', '-shortest'];
  const flags = ['-nostdin', '-v', 'error', ...protocols, ...begin, ...asked, '-f', 'null', '-'];
  const decoded = promisify(execFile)('ffmpeg', flags, { timeout: ceilingMs() });
  await Promise.all([decoded, connect()]);
  const said = (await decoded).stderr.split('\n');
  // A first sender report may move the time of sound back: decoders take that, and what throws all away complains.
  return said.filter((line) => line && !line.startsWith('[null @')).join('\n');
}

function bind(port: number): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    socket.once('error', () => resolve(undefined));
    socket.bind(port, '127.0.0.1', () => resolve(socket));
  });
}

async function isFree(port: number): Promise<boolean> {
  const socket = await bind(port);
  socket?.close();
  return socket !== undefined;
}

/** A port that is free, and the one after it, too. */
async function freePairOfPorts(): Promise<number> {
  for (;;) {
    const first = await bind(0);
    const port = first?.address().port ?? 1;
    const isPair = port % 2 === 0 && (await isFree(port + 1));
    first?.close();
    if (isPair) return port;
  }
}
