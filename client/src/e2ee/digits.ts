/** Five digits each, 100 bits together: nobody finds another secret with the same code. */
const CODE_GROUPS = 6;

/** Six groups of five digits, as people compare them, from a secret; `info` says for what. */
export async function digits(secret: CryptoKey, info: Uint8Array<ArrayBuffer>): Promise<string> {
  const hkdf = { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(), info };
  const bits = await crypto.subtle.deriveBits(hkdf, secret, CODE_GROUPS * 64);
  const view = new DataView(bits);
  const group = (at: number) => String(view.getBigUint64(at * 8) % 100_000n).padStart(5, '0');
  return Array.from({ length: CODE_GROUPS }, (_, at) => group(at)).join(' ');
}
