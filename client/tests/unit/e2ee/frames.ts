import type { Bytes } from '../../../src/e2ee/bytes';
import type { SealableCodec } from '../../../src/e2ee/codecs';
import { importSecret, secretOfLinkKey } from '../../../src/e2ee/keys';
import type { Opened } from '../../../src/e2ee/opener';
import { Openers } from '../../../src/e2ee/opener';
import { Sealer } from '../../../src/e2ee/sealer';
import { fromHex } from './hex';

/** A frame of each codec, of which all is used: parameter sets, size units, zeros that have to be escaped. */
export const FRAMES: Record<SealableCodec, Bytes> = {
  opus: fromHex('f8fffe'),
  vp8: fromHex('30000000009d012a4001b400000000000000000102030405'),
  vp9: fromHex('824983420013f00b3600'),
  h264: fromHex('000000016742c01f8c8d400000000168ce3c80000000016588804f000000000001ff00'),
  av1: fromHex('12000a0b00000042a7bfe46bf7e8203203112233'),
};

/** The secret of a meeting, by a letter. */
export async function secretOf(letter: string): Promise<CryptoKey> {
  const secret = secretOfLinkKey(letter.repeat(24));
  if (!secret) throw new Error('24 letters are a key');
  return importSecret(secret, 'meeting');
}

/** Someone who sends, and someone who receives from them. */
export async function pair(sendSecret = 'a', receiveSecret = 'a') {
  const sealer = new Sealer('ann');
  sealer.setSecret(await secretOf(sendSecret));
  const openers = new Openers();
  openers.secrets.set(await secretOf(receiveSecret), 0);
  const opener = (source = 'camera', participantId = 'ann') =>
    openers.of({ participantId, salt: sealer.salt, source });
  return { sealer, openers, opener };
}

/** Seals a frame that can be sealed. */
export async function sealed(
  sealer: Sealer,
  frame = FRAMES.opus,
  source = 'camera',
  codec: SealableCodec = 'opus',
) {
  const bytes = await sealer.seal(source, codec, frame);
  if (!bytes) throw new Error('it was not sealed');
  return bytes;
}

/** Why it was dropped, or that it was not. */
export function outcome(opened: Opened): string {
  return 'drop' in opened ? opened.drop : 'opened';
}
