/** Runs in the browser: clients for WHIP and WHEP that others wrote, as they are published, and moved by the tests. */
import { WebRTCPlayer } from '@eyevinn/webrtc-player';
import { WHIPClient as EyevinnPublisher } from '@eyevinn/whip-web-client';
import { WHEPClient } from 'whip-whep/whep.js';
import { WHIPClient } from 'whip-whep/whip.js';

/** What has come to one who watches. */
export interface Shown {
  frames: number;
  energy: number;
  height: number;
}

/** What a page can read of an answer. */
export interface Answered {
  status: number;
  body: string;
  headers: Record<string, string>;
}

interface Publisher {
  restart?(): Promise<unknown>;
  stop(): Promise<unknown>;
}

interface Watcher extends Publisher {
  video: HTMLVideoElement;
  connection(): RTCPeerConnection;
  client?: WHEPClient;
}

const publishers = new Map<string, Publisher>();
const watchers = new Map<string, Watcher>();
/** What went wrong where nobody listens. */
const faults: string[] = [];
window.addEventListener('unhandledrejection', ({ reason }) => faults.push(String(reason)));

function find<Kind>(all: Map<string, Kind>, name: string): Kind {
  const found = all.get(name);
  if (!found) throw new Error(`nobody is called ${name}`);
  return found;
}

const capture = () =>
  navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 640, height: 360 } });

function screen(): HTMLVideoElement {
  // Not muted: what nobody plays has no energy.
  const video = document.createElement('video');
  video.autoplay = true;
  document.body.append(video);
  return video;
}

/** `whip-whep`, by the author of the RFC. */
const whipWhep = {
  async publish(url: string, token: string): Promise<Publisher> {
    const connection = new RTCPeerConnection();
    const stream = await capture();
    for (const track of stream.getTracks()) connection.addTrack(track, stream);
    const client = new WHIPClient();
    await client.publish(connection, url, token);
    return { restart: () => client.restart(), stop: () => client.stop() };
  },

  async watch(url: string, token: string): Promise<Watcher> {
    const video = screen();
    const connection = new RTCPeerConnection();
    connection.ontrack = ({ streams }) => {
      video.srcObject = streams[0] ?? null;
    };
    for (const kind of ['audio', 'video']) {
      connection.addTransceiver(kind, { direction: 'recvonly' });
    }
    const client = new WHEPClient();
    await client.view(connection, url, token);
    const restart = () => client.restart();
    return { video, client, connection: () => connection, restart, stop: () => client.stop() };
  },
};

/** Eyevinn's, of which the player wants the whole header instead of the token. */
const eyevinn = {
  async publish(url: string, token: string): Promise<Publisher> {
    const opts = { authkey: token, iceServers: [] };
    const client = new EyevinnPublisher({ endpoint: url, opts });
    await client.ingest(await capture());
    return { stop: () => client.destroy() };
  },

  async watch(url: string, token: string): Promise<Watcher> {
    const video = screen();
    const player = new WebRTCPlayer({ video, type: 'whep', iceServers: [] });
    await player.load(new URL(url), `Bearer ${token}`);
    // It keeps its connection to itself, which is looked at here and not touched.
    const connection = () => (player as unknown as { peer: RTCPeerConnection }).peer;
    return { video, connection, stop: () => player.unload() };
  },
};

const clients = { whipWhep, eyevinn };

/** Whose client. */
export type ClientName = keyof typeof clients;

async function shown({ video, connection }: Watcher): Promise<Shown> {
  const reports = [...(await connection().getStats()).values()];
  const of = (kind: string) =>
    reports.find((report) => report.type === 'inbound-rtp' && report.kind === kind);
  return {
    frames: video.getVideoPlaybackQuality().totalVideoFrames,
    energy: Number(of('audio')?.totalAudioEnergy ?? 0),
    height: video.videoHeight,
  };
}

const wish = {
  publish: async (name: string, by: ClientName, url: string, token: string) => {
    publishers.set(name, await clients[by].publish(url, token));
  },
  watch: async (name: string, by: ClientName, url: string, token: string) => {
    watchers.set(name, await clients[by].watch(url, token));
  },
  shown: (name: string) => shown(find(watchers, name)),
  restartPublisher: async (name: string) => {
    await find(publishers, name).restart?.();
  },
  restartWatcher: async (name: string) => {
    await find(watchers, name).restart?.();
  },
  selectLayer: async (name: string, layer: Record<string, unknown> | undefined) => {
    const client = find(watchers, name).client;
    await (layer ? client?.selectLayer(layer) : client?.unselectLayer());
  },
  stop: async (name: string) => {
    await (publishers.get(name) ?? find(watchers, name)).stop();
  },
  faults: async () => faults.splice(0),
  /** An offer of one who sends or receives sound. */
  offer: async (direction: RTCRtpTransceiverDirection) => {
    const connection = new RTCPeerConnection();
    connection.addTransceiver('audio', { direction });
    const { sdp = '' } = await connection.createOffer();
    connection.close();
    return sdp;
  },
  /** Asks as any page can; `undefined` where the browser does not let it. */
  ask: async (url: string, init: RequestInit): Promise<Answered | undefined> => {
    try {
      const answer = await fetch(url, init);
      const headers = Object.fromEntries(answer.headers.entries());
      return { status: answer.status, body: await answer.text(), headers };
    } catch {
      return undefined;
    }
  },
};

/** What the tests can ask of the page. */
export type Wish = typeof wish;

declare global {
  interface Window {
    wish: Wish;
  }
}

window.wish = wish;
