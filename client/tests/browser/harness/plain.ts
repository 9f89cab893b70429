/** Peer connections as any page makes them, with data channels alone: no mediasoup-client, and channels opened by DCEP. */
import * as protoo from 'protoo-client';

/** A channel as its page sees it. */
export interface PlainChannel {
  id: number | null;
  label: string;
  protocol: string;
  ordered: boolean;
  maxRetransmits: number | null;
  maxPacketLifeTime: number | null;
  readyState: RTCDataChannelState;
}

/** A message as its page sees it; bytes are told by their number. */
export interface PlainMessage {
  label: string;
  text?: string;
  bytes: number;
}

interface TransportAnswer {
  transportId: string;
  iceParameters: { usernameFragment: string; password: string };
  iceCandidates: { foundation: string; priority: number; address: string; port: number }[];
  dtlsParameters: { fingerprints: { algorithm: string; value: string }[] };
  sctpParameters: { port: number; maxMessageSize: number };
}

class PlainPeer {
  readonly messages: PlainMessage[] = [];
  /** Those that the server opened, in their order. */
  readonly taken: RTCDataChannel[] = [];
  readonly #connection = new RTCPeerConnection();
  readonly #own = new Map<string, RTCDataChannel>();
  readonly #signaling: protoo.Peer;

  private constructor(signaling: protoo.Peer) {
    this.#signaling = signaling;
    // A plain peer takes what its connection tells it of.
    signaling.on('request', (_, accept) => accept());
    this.#connection.ondatachannel = ({ channel }) => {
      this.taken.push(channel);
      this.#listen(channel);
    };
  }

  /** One transport for both directions; the first channel is open when this returns. */
  static async open(
    serverUrl: string,
    room: string,
    peerId: string,
    label: string,
  ): Promise<PlainPeer> {
    const query = new URLSearchParams({ roomId: room, peerId });
    const signaling = new protoo.Peer(new protoo.WebSocketTransport(`${serverUrl}/?${query}`));
    await new Promise<void>((resolve) => signaling.on('open', resolve));
    const peer = new PlainPeer(signaling);
    const device = { flag: 'plain', name: 'Plain', version: '1' };
    await signaling.request('join', { displayName: 'Plain', device });
    const answer = (await signaling.request('createWebRtcTransport', {
      forceTcp: false,
      dcep: true,
      appData: { direction: 'consumer' },
    })) as TransportAnswer;
    const opened = peer.create(label, { protocol: 'test' });
    const connection = peer.#connection;
    await connection.setLocalDescription();
    const offer = connection.localDescription?.sdp ?? '';
    const [, algorithm, value] = /a=fingerprint:(\S+) (\S+)/.exec(offer) ?? [];
    await signaling.request('connectWebRtcTransport', {
      transportId: answer.transportId,
      dtlsParameters: { role: 'client', fingerprints: [{ algorithm, value }] },
    });
    await connection.setRemoteDescription({ type: 'answer', sdp: describe(answer) });
    await opened;
    return peer;
  }

  /** Opens a channel; resolves once it is open. */
  create(label: string, options: RTCDataChannelInit): Promise<void> {
    const channel = this.#connection.createDataChannel(label, options);
    this.#own.set(label, channel);
    this.#listen(channel);
    return new Promise((resolve) => channel.addEventListener('open', () => resolve()));
  }

  /** Says texts, or bytes by their number, and closes the channel at once if told to. */
  say(label: string, messages: (string | number)[], thenClose: boolean): void {
    const channel = this.#own.get(label);
    for (const message of messages) {
      if (typeof message === 'string') channel?.send(message);
      else channel?.send(new Uint8Array(message));
    }
    if (thenClose) channel?.close();
  }

  channels(): PlainChannel[] {
    return [...this.#own.values(), ...this.taken].map((channel) => ({
      id: channel.id,
      label: channel.label,
      protocol: channel.protocol,
      ordered: channel.ordered,
      maxRetransmits: channel.maxRetransmits,
      maxPacketLifeTime: channel.maxPacketLifeTime,
      readyState: channel.readyState,
    }));
  }

  close(): void {
    this.#connection.close();
    this.#signaling.close();
  }

  #listen(channel: RTCDataChannel): void {
    channel.binaryType = 'arraybuffer';
    channel.onmessage = ({ data }) => {
      const text = typeof data === 'string' ? { text: data } : {};
      this.messages.push({ label: channel.label, ...text, bytes: data.byteLength ?? data.length });
    };
  }
}

/** What the server says of a transport, as an answer (RFC 8841). */
function describe(answer: TransportAnswer): string {
  const fingerprint = answer.dtlsParameters.fingerprints[0];
  const lines = [
    'v=0',
    'o=- 1 1 IN IP4 127.0.0.1',
    's=-',
    't=0 0',
    'a=ice-lite',
    'a=group:BUNDLE 0',
    'm=application 9 UDP/DTLS/SCTP webrtc-datachannel',
    'c=IN IP4 0.0.0.0',
    'a=mid:0',
    `a=ice-ufrag:${answer.iceParameters.usernameFragment}`,
    `a=ice-pwd:${answer.iceParameters.password}`,
    `a=fingerprint:${fingerprint?.algorithm} ${fingerprint?.value}`,
    'a=setup:passive',
    `a=sctp-port:${answer.sctpParameters.port}`,
    `a=max-message-size:${answer.sctpParameters.maxMessageSize}`,
    ...answer.iceCandidates.map(
      ({ foundation, priority, address, port }) =>
        `a=candidate:${foundation} 1 udp ${priority} ${address} ${port} typ host`,
    ),
  ];
  return `${lines.join('\r\n')}\r\n`;
}

const peers = new Map<string, PlainPeer>();

function find(peerId: string): PlainPeer {
  const peer = peers.get(peerId);
  if (!peer) throw new Error(`no plain peer ${peerId} on this page`);
  return peer;
}

/** What tests can call of plain peers. */
export const plain = {
  plainOpen: async (peerId: string, serverUrl: string, room: string, label: string) => {
    peers.set(peerId, await PlainPeer.open(serverUrl, room, peerId, label));
  },
  plainCreate: (peerId: string, label: string, options: RTCDataChannelInit) =>
    find(peerId).create(label, options),
  plainSay: async (
    peerId: string,
    label: string,
    messages: (string | number)[],
    thenClose = false,
  ) => find(peerId).say(label, messages, thenClose),
  plainChannels: async (peerId: string) => find(peerId).channels(),
  plainMessages: async (peerId: string) => find(peerId).messages,
  plainClose: async (peerId: string) => find(peerId).close(),
};
