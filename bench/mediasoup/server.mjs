// A mediasoup application of the smallest kind: rooms in which everyone consumes everyone, over protoo in the words of
// mediasoup-demo's newer generation. For the load generator, which comes over loopback; nothing of it is for people.
//
//   node server.mjs [--port 4443] [--media-port 44443] [--outgoing-bitrate 1500000]
//
// When it is ready it prints one line of JSON: {"url": …, "pids": [worker, node]}. One worker serves all rooms, on one UDP
// port. SIGTERM ends it.

import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import mediasoup from 'mediasoup';
import protoo from 'protoo-server';

const IP = '127.0.0.1';

const feedback = [
  { type: 'nack' },
  { type: 'nack', parameter: 'pli' },
  { type: 'ccm', parameter: 'fir' },
  { type: 'transport-cc' },
];

const mediaCodecs = [
  { kind: 'audio', mimeType: 'audio/opus', clockRate: 48000, channels: 2 },
  { kind: 'video', mimeType: 'video/VP8', clockRate: 90000, rtcpFeedback: feedback },
  { kind: 'video', mimeType: 'video/VP9', clockRate: 90000, parameters: { 'profile-id': 0 }, rtcpFeedback: feedback },
  {
    kind: 'video',
    mimeType: 'video/H264',
    clockRate: 90000,
    parameters: { 'packetization-mode': 1, 'profile-level-id': '42e01f', 'level-asymmetry-allowed': 1 },
    rtcpFeedback: feedback,
  },
];

const { values: flags } = parseArgs({
  options: {
    port: { type: 'string', default: '4443' },
    'media-port': { type: 'string', default: '44443' },
    'outgoing-bitrate': { type: 'string', default: '1500000' },
  },
});

const worker = await mediasoup.createWorker({ logLevel: 'error' });
worker.on('died', (error) => {
  console.error(`the mediasoup worker died: ${error.message}`);
  process.exit(1);
});
const webRtcServer = await worker.createWebRtcServer({
  listenInfos: [{ protocol: 'udp', ip: IP, port: Number(flags['media-port']) }],
});

/** Rooms by name: a promise of each, so that two who come first at once make one room. */
const rooms = new Map();

function roomOf(name) {
  if (!rooms.has(name)) rooms.set(name, makeRoom());
  return rooms.get(name);
}

async function makeRoom() {
  const router = await worker.createRouter({ mediaCodecs });
  return { router, peers: new protoo.Room() };
}

/** What a peer has, beside its connection. */
function stateOf(peer) {
  peer.data.transports ??= new Map();
  peer.data.producers ??= new Map();
  return peer.data;
}

/** Offers a producer to a peer: paused until it has taken it. */
async function offer(room, peer, owner, producer) {
  const { rtpCapabilities, transports } = stateOf(peer);
  const receiving = [...transports.values()].find((transport) => transport.appData.direction === 'consumer');
  if (!rtpCapabilities || !receiving) return;
  if (!room.router.canConsume({ producerId: producer.id, rtpCapabilities })) return;
  const consumer = await receiving.consume({ producerId: producer.id, rtpCapabilities, paused: true });
  await peer.request('newConsumer', {
    peerId: owner.id,
    transportId: receiving.id,
    consumerId: consumer.id,
    id: consumer.id,
    producerId: producer.id,
    kind: consumer.kind,
    rtpParameters: consumer.rtpParameters,
    type: consumer.type,
    producerPaused: consumer.producerPaused,
    consumerScore: consumer.score,
    appData: { peerId: owner.id, source: producer.appData.source },
  });
  await consumer.resume();
}

/** Whoever leaves meanwhile cannot take an offer; that is no fault. */
function offerQuietly(...one) {
  offer(...one).catch((error) => {
    if (!one[1].closed) console.error(`no consumer: ${error.message}`);
  });
}

const requests = {
  getRouterRtpCapabilities: async (room) => ({ routerRtpCapabilities: room.router.rtpCapabilities }),

  createWebRtcTransport: async (room, peer, { appData }) => {
    const transport = await room.router.createWebRtcTransport({
      webRtcServer,
      enableUdp: true,
      enableTcp: false,
      initialAvailableOutgoingBitrate: Number(flags['outgoing-bitrate']),
      appData,
    });
    stateOf(peer).transports.set(transport.id, transport);
    const { id, iceParameters, iceCandidates, dtlsParameters } = transport;
    return { transportId: id, iceParameters, iceCandidates, dtlsParameters };
  },

  connectWebRtcTransport: async (_room, peer, { transportId, dtlsParameters }) => {
    await transportOf(peer, transportId).connect({ dtlsParameters });
  },

  join: async (room, peer, { rtpCapabilities }) => {
    stateOf(peer).rtpCapabilities = rtpCapabilities;
    const others = room.peers.peers.filter((other) => other !== peer);
    for (const other of others) {
      for (const producer of stateOf(other).producers.values()) offerQuietly(room, peer, other, producer);
    }
    return { peers: others.map((other) => ({ peerId: other.id })) };
  },

  produce: async (room, peer, { transportId, kind, rtpParameters, appData }) => {
    const producer = await transportOf(peer, transportId).produce({ kind, rtpParameters, appData });
    stateOf(peer).producers.set(producer.id, producer);
    for (const other of room.peers.peers) {
      if (other !== peer) offerQuietly(room, other, peer, producer);
    }
    return { producerId: producer.id };
  },
};

function transportOf(peer, id) {
  const transport = stateOf(peer).transports.get(id);
  if (!transport) throw new Error(`no transport ${id}`);
  return transport;
}

async function enter(roomName, peerId, accept) {
  const room = await roomOf(roomName);
  // An earlier connection of the same name makes room.
  if (room.peers.hasPeer(peerId)) room.peers.getPeer(peerId).close();
  const peer = room.peers.createPeer(peerId, accept());
  peer.on('request', async (request, answer, refuse) => {
    const handle = requests[request.method];
    if (!handle) return refuse(404, `unknown request ${request.method}`);
    try {
      answer((await handle(room, peer, request.data)) ?? {});
    } catch (error) {
      refuse(400, error.message);
    }
  });
  peer.on('close', () => {
    for (const transport of stateOf(peer).transports.values()) transport.close();
    if (room.peers.peers.length > 0 || rooms.get(roomName) === undefined) return;
    rooms.delete(roomName);
    room.peers.close();
    room.router.close();
  });
}

const http = createServer((_request, response) => response.writeHead(404).end());
const webSockets = new protoo.WebSocketServer(http, {});
webSockets.on('connectionrequest', (info, accept, reject) => {
  const query = new URL(info.request.url, 'ws://localhost').searchParams;
  const [room, peer] = [query.get('roomId'), query.get('peerId')];
  if (!room || !peer) return reject(400, 'roomId and peerId belong into the URL');
  enter(room, peer, accept).catch((error) => {
    console.error(`cannot enter: ${error.message}`);
    reject(500, error.message);
  });
});

process.on('SIGTERM', () => {
  worker.close();
  process.exit(0);
});

http.listen(Number(flags.port), IP, () => {
  console.log(JSON.stringify({ url: `ws://${IP}:${flags.port}/`, pids: [worker.pid, process.pid] }));
});
