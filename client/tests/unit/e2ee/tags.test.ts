import { expect, test } from 'vitest';
import type { Bytes } from '../../../src/e2ee/bytes';
import { importSecret } from '../../../src/e2ee/keys';
import { OLD_KEYS_MS, Openers } from '../../../src/e2ee/opener';
import { Sealer } from '../../../src/e2ee/sealer';
import { decodeHeader } from '../../../src/e2ee/sframe';

/** An epoch's secret, in use. */
function epoch(number: number): Promise<CryptoKey> {
  const bytes = new Uint8Array(32).fill(number);
  return importSecret({ kind: 'epoch', bytes, tag: number }, 'any');
}

const message = new TextEncoder().encode('hello') as Bytes;

test('who has not got to an epoch waits for it, and takes nothing for forged', async () => {
  const [first, second] = [await epoch(1), await epoch(2)];
  const sealer = new Sealer('ann');
  const openers = new Openers();
  const opener = openers.of({ participantId: 'ann', salt: sealer.salt, source: 'data' });
  const sealed = async () => (await sealer.sealMessage('data', message)) ?? new Uint8Array();
  openers.secrets.set(first, 0, 1);
  sealer.setSecret(first, 1);
  expect(await opener.openMessage(await sealed(), 1)).toEqual({ frame: message });
  sealer.setSecret(second, 2);
  expect(await opener.openMessage(await sealed(), 2)).toEqual({ drop: 'no-key' });
  openers.secrets.set(second, 3, 2);
  expect(await opener.openMessage(await sealed(), 4)).toEqual({ frame: message });
});

test('an epoch before is opened for ten seconds, and of sixteen each has its own key', async () => {
  const openers = new Openers();
  const sealer = new Sealer('ann');
  const opener = openers.of({ participantId: 'ann', salt: sealer.salt, source: 'data' });
  const sealed: Bytes[] = [];
  for (let number = 1; number <= 16; number += 1) {
    const key = await epoch(number);
    openers.secrets.set(key, number, number);
    sealer.setSecret(key, number);
    sealed.push((await sealer.sealMessage('data', message)) ?? new Uint8Array());
  }
  for (const one of sealed) expect(await opener.openMessage(one, 20)).toEqual({ frame: message });
  const late = openers.of({ participantId: 'ann', salt: sealer.salt, source: 'other' });
  const last = (await sealer.sealMessage('other', message)) ?? new Uint8Array();
  expect(await late.openMessage(last, 11_000)).toEqual({ frame: message });
  const again = openers.of({ participantId: 'ann', salt: sealer.salt, source: 'data' });
  const [first = new Uint8Array()] = sealed;
  expect(await again.openMessage(first, 11_000)).not.toHaveProperty('frame');
});

test('KIDs only grow, also where the epochs of another group are lower', async () => {
  const sealer = new Sealer('ann');
  let before = -1n;
  for (const tag of [250, 255, 0, 3, 3]) {
    sealer.setSecret(await epoch(tag), tag);
    const sealed = (await sealer.sealMessage('data', message)) ?? new Uint8Array();
    const kid = decodeHeader(sealed)?.kid ?? 0n;
    expect(kid).toBeGreaterThan(before);
    expect(Number(kid & 255n)).toBe(tag);
    before = kid;
  }
});

test('a shared secret after a group, and a group after it, are opened for as long as they last', async () => {
  const sealer = new Sealer('ann');
  const openers = new Openers();
  const opener = openers.of({ participantId: 'ann', salt: sealer.salt, source: 'data' });
  const sealed = async () => (await sealer.sealMessage('data', message)) ?? new Uint8Array();
  const kids: bigint[] = [];
  let now = 0;
  for (const tag of [5, undefined, undefined, 5, undefined]) {
    const key = await epoch(kids.length);
    sealer.setSecret(key, tag);
    openers.secrets.set(key, now, tag);
    for (let frame = 0; frame < 2; frame += 1) {
      now += OLD_KEYS_MS + 1_000;
      const one = await sealed();
      expect(await opener.openMessage(one, now), `${kids.length}`).toEqual({ frame: message });
      if (frame === 0) kids.push(decodeHeader(one)?.kid ?? 0n);
    }
  }
  // They grow no faster than they must.
  expect(kids).toEqual([0x105n, 0x106n, 0x107n, 0x205n, 0x206n]);
});

test('shared secrets alone have the KIDs that they always had: 1, 2, 3', async () => {
  const sealer = new Sealer('ann');
  for (const kid of [1n, 2n, 3n]) {
    sealer.setSecret(await epoch(1));
    const sealed = (await sealer.sealMessage('data', message)) ?? new Uint8Array();
    expect([decodeHeader(sealed)?.kid, sealer.epoch]).toEqual([kid, kid]);
  }
});
