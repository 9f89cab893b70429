/**
 * MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519, the suite that every implementation of RFC 9420 has, on WebCrypto alone:
 * the library's own table of suites would bring what belongs to others.
 */
import { Aes128Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from '@hpke/core';
import type { CiphersuiteImpl } from 'ts-mls';
import { makeHashImpl } from 'ts-mls/crypto/implementation/default/makeHashImpl.js';
import { makeKdfImpl } from 'ts-mls/crypto/implementation/default/makeKdfImpl.js';
import { makeGenericHpke } from 'ts-mls/crypto/implementation/hpke.js';
import type { Bytes } from '../bytes';

export const SUITE_NAME = 'MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519';

const HPKE = {
  kem: 'DHKEM-X25519-HKDF-SHA256',
  kdf: 'HKDF-SHA256',
  aead: 'AES128GCM',
} as const;

/** Of X25519. */
export const KEY_BYTES = 32;

let made: Promise<CiphersuiteImpl> | undefined;

/** The suite; made once. */
export function suite(): Promise<CiphersuiteImpl> {
  made ??= make();
  return made;
}

async function make(): Promise<CiphersuiteImpl> {
  const kem = new DhkemX25519HkdfSha256();
  const cipherSuite = new CipherSuite({ kem, kdf: new HkdfSha256(), aead: new Aes128Gcm() });
  const hpke = await makeGenericHpke(HPKE, AEAD, cipherSuite);
  return {
    name: SUITE_NAME,
    hash: makeHashImpl(crypto.subtle, 'SHA-256'),
    kdf: makeKdfImpl(new HkdfSha256()),
    hpke: {
      ...hpke,
      // The library takes the `external_pub` extension for the key itself, which has its length in front (RFC 9420
      // §12.4.3.2; ts-mls pull request 449).
      importPublicKey: (key) =>
        hpke.importPublicKey(key.length > KEY_BYTES ? key.subarray(1) : key),
    },
    rng: { randomBytes: (length) => crypto.getRandomValues(new Uint8Array(length)) },
    signature: SIGNATURE,
  };
}

const AEAD = {
  encrypt: (key: Uint8Array, iv: Uint8Array, additionalData: Uint8Array, plain: Uint8Array) =>
    aes('encrypt', key, iv, additionalData, plain),
  decrypt: (key: Uint8Array, iv: Uint8Array, additionalData: Uint8Array, sealed: Uint8Array) =>
    aes('decrypt', key, iv, additionalData, sealed),
};

async function aes(
  what: 'encrypt' | 'decrypt',
  raw: Uint8Array,
  iv: Uint8Array,
  additionalData: Uint8Array,
  data: Uint8Array,
): Promise<Uint8Array> {
  const key = await crypto.subtle.importKey('raw', raw as Bytes, 'AES-GCM', false, [what]);
  const gcm = { name: 'AES-GCM', iv: iv as Bytes, additionalData: additionalData as Bytes };
  return new Uint8Array(await crypto.subtle[what](gcm, key, data as Bytes));
}

/** Private keys are PKCS #8, as WebCrypto writes them. */
const SIGNATURE: CiphersuiteImpl['signature'] = {
  async sign(signKey, message) {
    const key = await crypto.subtle.importKey('pkcs8', signKey as Bytes, 'Ed25519', false, [
      'sign',
    ]);
    return new Uint8Array(await crypto.subtle.sign('Ed25519', key, message as Bytes));
  },
  async verify(publicKey, message, signature) {
    const key = await crypto.subtle.importKey('raw', publicKey as Bytes, 'Ed25519', false, [
      'verify',
    ]);
    return crypto.subtle.verify('Ed25519', key, signature as Bytes, message as Bytes);
  },
  async keygen() {
    const uses: KeyUsage[] = ['sign', 'verify'];
    const pair = (await crypto.subtle.generateKey('Ed25519', true, uses)) as CryptoKeyPair;
    return {
      publicKey: new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey)),
      signKey: new Uint8Array(await crypto.subtle.exportKey('pkcs8', pair.privateKey)),
    };
  },
};
