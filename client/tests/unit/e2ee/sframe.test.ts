import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  AES_128_GCM_SHA256_128,
  AES_256_GCM_SHA512_128,
  type CipherSuite,
  decodeHeader,
  deriveKey,
  deriveRaw,
  encodeHeader,
  open,
  seal,
} from '../../../src/e2ee/sframe';
import { fromHex, toHex } from './hex';

interface HeaderVector {
  kid: bigint;
  ctr: bigint;
  encoded: string;
}

interface SframeVector {
  cipher_suite: number;
  kid: bigint;
  ctr: bigint;
  base_key: string;
  sframe_key: string;
  sframe_salt: string;
  metadata: string;
  pt: string;
  ct: string;
}

/** Numbers above 2^53 are in it, which JSON.parse would round. */
const vectors = JSON.parse(
  readFileSync(join(import.meta.dirname, 'sframe-test-vectors.json'), 'utf8').replace(
    /"(kid|ctr)": (\d+)/g,
    '"$1": "$2"',
  ),
  (key, value) => (key === 'kid' || key === 'ctr' ? BigInt(value) : value),
) as { header: HeaderVector[]; sframe: SframeVector[] };

/** Of the suites that are not offered, only the lengths of their keys are known here. */
const SUITES: Record<number, CipherSuite> = {
  1: { id: 1, hash: 'SHA-256', keyBytes: 48 },
  2: { id: 2, hash: 'SHA-256', keyBytes: 48 },
  3: { id: 3, hash: 'SHA-256', keyBytes: 48 },
  4: AES_128_GCM_SHA256_128,
  5: AES_256_GCM_SHA512_128,
};

const suiteOf = (id: number): CipherSuite => {
  const suite = SUITES[id];
  if (!suite) throw new Error(`no suite ${id}`);
  return suite;
};

test('all vectors are there', () => {
  expect(vectors.header).toHaveLength(289);
  expect(vectors.sframe.map(({ cipher_suite }) => cipher_suite)).toEqual([1, 2, 3, 4, 5]);
});

test('headers are written and read as in RFC 9605, appendix C.1', () => {
  for (const { kid, ctr, encoded } of vectors.header) {
    expect(toHex(encodeHeader(kid, ctr))).toBe(encoded);
    const bytes = fromHex(encoded);
    expect(decodeHeader(bytes)).toEqual({ kid, counter: ctr, length: bytes.length });
  }
});

test('a header that ends too soon is none', () => {
  for (const { encoded } of vectors.header) {
    const bytes = fromHex(encoded);
    for (let length = 0; length < bytes.length; length += 1) {
      expect(decodeHeader(bytes.subarray(0, length))).toBeUndefined();
    }
  }
});

test.each(vectors.sframe)(
  'suite $cipher_suite: keys are derived as in appendix C.3',
  async (vector) => {
    const suite = suiteOf(vector.cipher_suite);
    const { key, salt } = await deriveRaw(suite, fromHex(vector.base_key), vector.kid);
    expect(toHex(key)).toBe(vector.sframe_key);
    expect(toHex(salt)).toBe(vector.sframe_salt);
  },
);

describe.each(vectors.sframe.filter(({ cipher_suite }) => cipher_suite >= 4))(
  'suite $cipher_suite',
  (vector) => {
    const derived = () =>
      deriveKey(suiteOf(vector.cipher_suite), fromHex(vector.base_key), vector.kid);
    const metadata = fromHex(vector.metadata);

    test('frames are sealed as in appendix C.3', async () => {
      const sealed = await seal(await derived(), vector.ctr, metadata, fromHex(vector.pt));
      expect(toHex(sealed)).toBe(vector.ct);
    });

    test('they are opened, unless a bit of them or of the metadata is another', async () => {
      const key = await derived();
      const sealed = fromHex(vector.ct);
      const header = decodeHeader(sealed);
      if (!header) throw new Error('the vector has a header');
      expect(toHex((await open(key, header, metadata, sealed)) ?? new Uint8Array())).toBe(
        vector.pt,
      );
      for (let at = 0; at < sealed.length; at += 1) {
        const changed = Uint8Array.from(sealed, (byte, index) => (index === at ? byte ^ 1 : byte));
        expect(await open(key, header, metadata, changed), `byte ${at}`).toBeUndefined();
      }
      expect(await open(key, header, metadata.subarray(1), sealed)).toBeUndefined();
      expect(
        await open(key, { ...header, counter: vector.ctr + 1n }, metadata, sealed),
      ).toBeUndefined();
    });
  },
);
