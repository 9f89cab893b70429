/** A room watched by WHEP as any page can: a peer connection and one request, no library. */

/** What has come of one kind. */
export interface Watched {
  kind: string;
  framesDecoded: number;
  frameWidth: number;
  frameHeight: number;
  totalAudioEnergy: number;
  payloadType: number;
  mimeType: string;
  retransmittedPacketsReceived: number;
  packetsReceived: number;
  concealedSamples: number;
  totalSamplesReceived: number;
  fecPacketsReceived: number;
}

interface Watching {
  connection: RTCPeerConnection;
  resource: URL;
  etag: string;
}

const watching = new Map<string, Watching>();

function find(name: string): Watching {
  const found = watching.get(name);
  if (!found) throw new Error(`nobody watches as ${name}`);
  return found;
}

// The ten lines of docs/OPERATIONS.md.
async function watchRoom(video: HTMLVideoElement, address: string): Promise<Watching> {
  const connection = new RTCPeerConnection();
  connection.ontrack = ({ streams }) => {
    video.srcObject = streams[0] ?? null;
  };
  connection.addTransceiver('audio', { direction: 'recvonly' });
  connection.addTransceiver('video', { direction: 'recvonly' });
  await connection.setLocalDescription();
  const headers = { 'Content-Type': 'application/sdp' };
  const body = connection.localDescription?.sdp ?? '';
  const answer = await fetch(address, { method: 'POST', headers, body });
  const sdp = await answer.text();
  if (answer.status !== 201) throw new Error(`${answer.status}: ${sdp}`);
  await connection.setRemoteDescription({ type: 'answer', sdp });
  const header = (name: string) => answer.headers.get(name) ?? '';
  return { connection, resource: new URL(header('Location'), address), etag: header('ETag') };
}

/** Sends a fragment (RFC 8840), and takes what comes back as our side's. */
async function restart({ connection, resource }: Watching): Promise<number> {
  await connection.setLocalDescription(await connection.createOffer({ iceRestart: true }));
  const headers = { 'Content-Type': 'application/trickle-ice-sdpfrag', 'If-Match': '*' };
  const body = connection.localDescription?.sdp.match(/^a=(ice-ufrag|ice-pwd):.*$/gm)?.join('\r\n');
  const answer = await fetch(resource, { method: 'PATCH', headers, body: body ?? '' });
  const fragment = await answer.text();
  const line = (name: string) => fragment.match(new RegExp(`^a=${name}:.*$`, 'm'))?.[0] ?? '';
  const before = connection.remoteDescription?.sdp ?? '';
  const sdp = before
    .replace(/^a=ice-ufrag:.*$/gm, line('ice-ufrag').trim())
    .replace(/^a=ice-pwd:.*$/gm, line('ice-pwd').trim());
  await connection.setRemoteDescription({ type: 'answer', sdp });
  return answer.status;
}

async function watched({ connection }: Watching): Promise<Watched[]> {
  const reports = [...(await connection.getStats()).values()];
  const codecs = new Map(reports.map((report) => [report.id, report]));
  return reports
    .filter(({ type }) => type === 'inbound-rtp')
    .map((report) => {
      const codec = codecs.get(report.codecId);
      const number = (name: string) => Number(report[name] ?? 0);
      return {
        kind: String(report.kind),
        framesDecoded: number('framesDecoded'),
        frameWidth: number('frameWidth'),
        frameHeight: number('frameHeight'),
        totalAudioEnergy: number('totalAudioEnergy'),
        payloadType: Number(codec?.payloadType ?? -1),
        mimeType: String(codec?.mimeType ?? ''),
        retransmittedPacketsReceived: number('retransmittedPacketsReceived'),
        packetsReceived: number('packetsReceived'),
        concealedSamples: number('concealedSamples'),
        totalSamplesReceived: number('totalSamplesReceived'),
        fecPacketsReceived: number('fecPacketsReceived'),
      };
    });
}

/** Part of the harness. */
export const whep = {
  watch: async (name: string, address: string) => {
    // Not muted: what nobody plays has no energy.
    const video = document.createElement('video');
    video.autoplay = true;
    document.body.append(video);
    watching.set(name, await watchRoom(video, address));
  },
  watched: (name: string) => watched(find(name)),
  watchingState: async (name: string) => find(name).connection.connectionState,
  /** The status of the answer. */
  restartWatching: (name: string) => restart(find(name)),
  /** Ends it; the status of that. */
  unwatch: async (name: string) => {
    const { connection, resource } = find(name);
    const { status } = await fetch(resource, { method: 'DELETE' });
    connection.close();
    watching.delete(name);
    return status;
  },
};
