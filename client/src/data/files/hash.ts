import type { Bytes } from '../../e2ee/bytes';

/** What is hashed in one piece, bytes: a mebibyte, of sixteen chunks. */
export const SEGMENT_BYTES = 1_048_576;

/** SHA-256. Pages without https have none of the browser's. */
export async function sha256(bytes: Bytes): Promise<Bytes> {
  if (globalThis.crypto?.subtle) {
    return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  }
  const { sha256: hash } = await import('@noble/hashes/sha2.js');
  return new Uint8Array(hash(bytes));
}

/** Of a file: SHA-256 of its segments' hashes, one after the other. */
export async function hashOfHashes(hashes: readonly Bytes[]): Promise<string> {
  const joined = new Uint8Array(hashes.length * 32);
  for (const [at, hash] of hashes.entries()) joined.set(hash, at * 32);
  const digest = await sha256(joined);
  return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Reads and hashes a file; a segment at a time is in memory. Rejects once it is `aborted`. */
export async function hashFile(file: Blob, aborted?: AbortSignal): Promise<string> {
  const hashes: Bytes[] = [];
  for (let at = 0; at < file.size; at += SEGMENT_BYTES) {
    aborted?.throwIfAborted();
    const bytes = await file.slice(at, at + SEGMENT_BYTES).arrayBuffer();
    hashes.push(await sha256(new Uint8Array(bytes)));
  }
  return hashOfHashes(hashes);
}
