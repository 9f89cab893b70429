import { expect, test } from 'vitest';
import { openHarness } from './support/chromium';
import { NoisyRelay } from './support/noisyRelay';
import { TestServer } from './support/server';
import { endTalk, pictures, startTalk } from './support/talk';

/** A record that DTLS 1.2 or 1.3 may send, with a body of no sense. */
function record(index: number): Buffer {
  const body = Buffer.alloc(20 + (index % 60), index % 256);
  // DTLS 1.3 protects records under a header of its own (RFC 9147 section 4).
  if (index % 6 === 5)
    return Buffer.concat([Buffer.from([0x2e, 0, index % 256, 0, body.length]), body]);
  const header = Buffer.from([
    20 + (index % 6),
    0xfe,
    0xfd,
    0,
    index % 2,
    0,
    0,
    0,
    0,
    0,
    index % 256,
    0,
    body.length,
  ]);
  return Buffer.concat([header, body]);
}

test.each([
  ['1.2', 'FEFD'],
  ['1.3', 'FEFC'],
])(
  '175 datagrams of garbage a second keep nobody from a handshake of DTLS %s',
  async (version, name) => {
    const flags = [`--dtls-max-version=${version}`];
    const server = await TestServer.start({ name: `garbage-${version}`, flags });
    const relay = await NoisyRelay.start(server, 175, record);
    try {
      const call = await openHarness();
      const links = { sender: { relayPort: relay.port }, receiver: { relayPort: relay.port } };
      const talk = await startTalk(call, server, { links });
      await pictures(call, talk.receiver, talk.videoId);
      const path = await call('path', talk.sender, 'send');
      expect(path.tlsVersion).toBe(name);
      expect(relay.sent).toBeGreaterThan(0);
      await endTalk(call, talk);
    } finally {
      relay.stop();
      await server.stop();
    }
  },
);
