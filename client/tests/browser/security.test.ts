import { expect, test } from 'vitest';
import { openHarness } from './support/chromium';
import { TestServer } from './support/server';
import { endTalk, pictures, startTalk } from './support/talk';

test.each([
  ['by default', [], 'FEFC', 'SRTP_AEAD_AES_128_GCM'],
  ['with DTLS up to 1.2', ['--dtls-max-version=1.2'], 'FEFD', 'SRTP_AEAD_AES_128_GCM'],
  ['with 256 bits', ['--srtp-profiles=aes256-gcm'], 'FEFC', 'SRTP_AEAD_AES_256_GCM'],
  [
    'with AES-CM over DTLS 1.3',
    ['--srtp-profiles=aes128-cm-sha1'],
    'FEFC',
    'SRTP_AES128_CM_HMAC_SHA1_80',
  ],
  [
    'with AES-CM over DTLS 1.2',
    ['--srtp-profiles=aes128-cm-sha1', '--dtls-max-version=1.2'],
    'FEFD',
    'SRTP_AES128_CM_HMAC_SHA1_80',
  ],
])('%s, Chromium agrees on what the server wants', async (name, flags, version, cipher) => {
  const server = await TestServer.start({ name: 'security', flags });
  try {
    const call = await openHarness();
    const talk = await startTalk(call, server);
    await pictures(call, talk.receiver, talk.videoId);
    for (const [peer, direction] of [
      [talk.sender, 'send'],
      [talk.receiver, 'recv'],
    ] as const) {
      const path = await call('path', peer, direction);
      expect(path.tlsVersion, `${name}: ${direction}`).toBe(version);
      expect(path.srtpCipher, `${name}: ${direction}`).toBe(cipher);
    }
    await endTalk(call, talk);
  } finally {
    await server.stop();
  }
});
