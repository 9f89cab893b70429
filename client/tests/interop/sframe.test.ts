import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Bytes, concat } from '../../src/e2ee/bytes';
import { SEALABLE_CODECS, type SealableCodec } from '../../src/e2ee/codecs';
import { parseFrame } from '../../src/e2ee/envelope';
import { baseKey, importSecret, newLinkKey, secretOfLinkKey } from '../../src/e2ee/keys';
import { Sealer } from '../../src/e2ee/sealer';
import { AES_128_GCM_SHA256_128, decodeHeader, deriveKey, open } from '../../src/e2ee/sframe';
import { isProof } from '../browser/support/timing';
import { FRAMES } from '../unit/e2ee/frames';
import { fromHex, toHex } from '../unit/e2ee/hex';

/** Of each codec. */
const ROUNDS = 1_000;

const manifest = join(import.meta.dirname, 'sframe/Cargo.toml');
const recorded = join(import.meta.dirname, '../browser/out');
const target =
  process.env.OPENCALL_SFRAME_TARGET ?? join(import.meta.dirname, '../../../target/sframe');

/** Asks the crate `sframe`, a line for a line. */
async function ask(lines: string[]): Promise<string[]> {
  const peer = spawn(
    'cargo',
    ['run', '--quiet', '--locked', '--manifest-path', manifest, '--target-dir', target],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  peer.stdin.end(`${lines.join('\n')}\n`);
  let text = '';
  for await (const part of peer.stdout) text += part;
  const answers = text.trim().split('\n');
  expect(answers).toHaveLength(lines.length);
  return answers;
}

const hex = (bytes: Uint8Array) => (bytes.length === 0 ? '-' : toHex(bytes));

/** What of a frame was sealed, as it comes out of ours. */
function sealedPart(codec: SealableCodec, frame: Bytes, prefixLength: number): Uint8Array {
  return codec === 'av1' ? frame : frame.subarray(prefixLength);
}

function randomFrame(codec: SealableCodec): Bytes {
  const random = crypto.getRandomValues(new Uint8Array(100)).map((byte) => (byte & 1 ? byte : 0));
  const unit = codec === 'av1' ? Uint8Array.of(0x32, 100) : new Uint8Array();
  return concat(FRAMES[codec], unit, random);
}

let secret: CryptoKey;

beforeAll(async () => {
  const linkKey = secretOfLinkKey(newLinkKey());
  if (!linkKey) throw new Error('unreachable: it is a new key');
  secret = await importSecret(linkKey, 'meeting');
});

describe.each(SEALABLE_CODECS)('%s', (codec) => {
  test('the crate sframe opens what we seal, over rotations', async () => {
    const sealer = new Sealer('ann');
    sealer.setSecret(secret);
    const lines: string[] = [];
    const expected: string[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      if (round % 50 === 0) sealer.rotate();
      const frame = randomFrame(codec);
      const sealed = await sealer.seal('camera', codec, frame);
      const parsed = sealed && parseFrame(codec, sealed);
      if (!parsed) throw new Error('it was not sealed');
      const stream = { participantId: 'ann', salt: sealer.salt, source: 'camera' };
      const key = await baseKey(secret, stream, parsed.header.kid);
      lines.push(`open ${codec} ${toHex(key)} ${toHex(sealed)}`);
      expected.push(hex(sealedPart(codec, frame, parsed.prefix.length)));
    }
    expect(await ask(lines)).toEqual(expected);
  });

  test('it opens what browsers sent through the server', async (context) => {
    const file = join(recorded, `frames-${codec}.txt`);
    if (!isProof && !existsSync(file)) context.skip('recorded by tests/browser/e2ee.test.ts');
    const lines = readFileSync(file, 'utf8').trim().split('\n');
    const answers = await ask(lines);
    const refused = answers.filter((answer) => answer.startsWith('!'));
    expect(refused).toEqual([]);
    console.info(`${codec}: ${answers.length} frames of browsers opened`);
  });
});

test('we open what the crate sframe seals', async () => {
  const kids = [0n, 7n, 8n, 300n, 2n ** 40n];
  const lines: string[] = [];
  const cases: { kid: bigint; key: Bytes; metadata: Bytes; plain: Bytes }[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const random = (length: number) => crypto.getRandomValues(new Uint8Array(length));
    const kid = kids[round % kids.length] ?? 0n;
    const [key, metadata, plain] = [random(32), random(round % 12), random(1 + (round % 200))];
    cases.push({ kid, key, metadata, plain });
    lines.push(`seal ${toHex(key)} ${kid} ${round * 37} ${hex(metadata)} ${hex(plain)}`);
  }
  const answers = await ask(lines);
  for (const [at, { kid, key, metadata, plain }] of cases.entries()) {
    const whole = fromHex(answers[at] ?? '');
    // It puts the metadata in front.
    expect(hex(whole.subarray(0, metadata.length))).toBe(hex(metadata));
    const sealed = whole.subarray(metadata.length);
    const header = decodeHeader(sealed);
    if (!header) throw new Error(`no header: ${answers[at]}`);
    expect([header.kid, header.counter]).toEqual([kid, BigInt(at * 37)]);
    const sframe = await deriveKey(AES_128_GCM_SHA256_128, key, kid);
    expect(hex((await open(sframe, header, metadata, sealed)) ?? new Uint8Array())).toBe(
      hex(plain),
    );
  }
});
