import { describe, expect, test } from 'vitest';
import { SEALABLE_CODECS } from '../../../src/e2ee/codecs';
import { OLD_KEYS_MS } from '../../../src/e2ee/opener';
import { Sealer } from '../../../src/e2ee/sealer';
import { decodeHeader } from '../../../src/e2ee/sframe';
import { FRAMES, outcome, pair, sealed, secretOf } from './frames';
import { toHex } from './hex';

describe.each(SEALABLE_CODECS)('%s', (codec) => {
  test('what is sealed is opened, and nothing of it can be changed', async () => {
    const { sealer, opener } = await pair();
    const frame = FRAMES[codec];
    const bytes = await sealed(sealer, frame, 'camera', codec);
    expect(toHex(bytes)).not.toContain(toHex(frame.subarray(-4)));
    for (let at = 0; at < bytes.length; at += 1) {
      const changed = Uint8Array.from(bytes, (byte, index) => (index === at ? byte ^ 0x55 : byte));
      expect(outcome(await opener().open(codec, changed, 0)), `byte ${at}`).toMatch(
        /not-authentic|malformed|old-key/,
      );
    }
    const opened = await opener().open(codec, bytes, 0);
    expect('frame' in opened && toHex(opened.frame)).toBe(toHex(frame));
  });

  test('a thousand frames of random content come back', async () => {
    const { sealer, opener } = await pair();
    for (let round = 0; round < 1000; round += 1) {
      // Half of it zeros, which H.264 has to escape.
      const random = crypto
        .getRandomValues(new Uint8Array(30))
        .map((byte) => (byte & 1 ? byte : 0));
      // A unit of AV1 has a size, here one of a frame with 31 bytes.
      const unit = codec === 'av1' ? [0x32, 31] : [];
      const frame = new Uint8Array([...FRAMES[codec], ...unit, ...random, 1]);
      const opened = await opener().open(codec, await sealed(sealer, frame, 'camera', codec), 0);
      expect('frame' in opened && toHex(opened.frame)).toBe(toHex(frame));
    }
  });
});

test('no key and counter seal two frames, whatever is asked for at once', async () => {
  const { sealer } = await pair();
  const used = new Set<string>();
  for (let round = 0; round < 20; round += 1) {
    const frames = Array.from({ length: 50 }, (_, index) =>
      sealed(sealer, FRAMES.opus, index % 2 ? 'camera' : 'microphone'),
    );
    if (round % 3 === 0) sealer.rotate();
    if (round % 7 === 0) sealer.setSecret(await secretOf('a'));
    for (const [index, frame] of (await Promise.all(frames)).entries()) {
      const header = decodeHeader(frame);
      used.add(`${index % 2} ${header?.kid} ${header?.counter}`);
    }
  }
  expect(used.size).toBe(1000);
});

test('two sessions of one participant have different salts, and cannot read each other’s keys', async () => {
  const { sealer, opener } = await pair();
  const again = new Sealer('ann');
  again.setSecret(await secretOf('a'));
  expect(toHex(again.salt)).not.toBe(toHex(sealer.salt));
  expect(outcome(await opener().open('opus', await sealed(again), 0))).toBe('not-authentic');
});

test('a frame is opened once', async () => {
  const { sealer, opener } = await pair();
  const bytes = await sealed(sealer);
  const both = await Promise.all([
    opener().open('opus', bytes, 0),
    opener().open('opus', bytes, 0),
  ]);
  expect(both.map(outcome).sort()).toEqual(['opened', 'replayed']);
  expect(outcome(await opener().open('opus', bytes, 0))).toBe('replayed');
});

test('a frame of one source or person is not taken for another’s', async () => {
  const { sealer, opener } = await pair();
  const bytes = await sealed(sealer);
  expect(outcome(await opener('screen').open('opus', bytes, 0))).toBe('not-authentic');
  expect(outcome(await opener('camera', 'ben').open('opus', bytes, 0))).toBe('not-authentic');
});

test('a wrong secret opens nothing; none says so', async () => {
  const { sealer, openers, opener } = await pair('a', 'b');
  expect(outcome(await opener().open('opus', await sealed(sealer), 0))).toBe('not-authentic');
  // Taken away, it ends at once.
  openers.secrets.set(undefined, 0);
  expect(outcome(await opener().open('opus', await sealed(sealer), 0))).toBe('no-key');
});

test('a secret that comes back opens what is sealed with it, and nothing twice', async () => {
  const { sealer, openers, opener } = await pair();
  const [first, second] = [await sealed(sealer), await sealed(sealer)];
  expect(outcome(await opener().open('opus', first, 0))).toBe('opened');
  openers.secrets.set(undefined, 10);
  expect(outcome(await opener().open('opus', second, 10))).toBe('no-key');
  openers.secrets.set(await secretOf('a'), 20);
  expect(outcome(await opener().open('opus', first, 30))).toBe('replayed');
  expect(outcome(await opener().open('opus', second, 30))).toBe('opened');
});

test('without a secret nothing is sealed', async () => {
  const { sealer } = await pair();
  sealer.setSecret(undefined);
  expect(await sealer.seal('camera', 'opus', FRAMES.opus)).toBeUndefined();
});

test('what is in the clear is not played', async () => {
  const { opener } = await pair();
  for (const codec of SEALABLE_CODECS) {
    expect(outcome(await opener().open(codec, FRAMES[codec], 0))).not.toBe('opened');
    expect(outcome(await opener().open(codec, new Uint8Array(), 0))).toBe('malformed');
  }
});

test('nonsense is dropped, whatever it is', async () => {
  const { sealer, opener } = await pair();
  for (const codec of SEALABLE_CODECS) {
    const good = await sealed(sealer, FRAMES[codec], 'camera', codec);
    for (let round = 0; round < 300; round += 1) {
      const random = crypto.getRandomValues(new Uint8Array(1 + (round % 60)));
      const cutOff = good.slice(0, round % good.length);
      const longer = new Uint8Array([...good, ...random]);
      for (const frame of [random, cutOff, longer]) {
        // By chance it may name a key that there is, and a counter that was used.
        expect(outcome(await opener().open(codec, frame, 0))).toMatch(
          /malformed|not-authentic|replayed/,
        );
      }
    }
    expect(outcome(await opener().open(codec, good, 0))).toBe('opened');
  }
});

describe('after a rotation', () => {
  test('frames of the key before are taken for ten seconds, and no longer', async () => {
    const { sealer, opener } = await pair();
    const [first, second, late] = [
      await sealed(sealer),
      await sealed(sealer),
      await sealed(sealer),
    ];
    sealer.rotate();
    const next = await sealed(sealer);
    expect(outcome(await opener().open('opus', first, 0))).toBe('opened');
    expect(outcome(await opener().open('opus', next, 1000))).toBe('opened');
    expect(outcome(await opener().open('opus', second, 999 + OLD_KEYS_MS))).toBe('opened');
    expect(outcome(await opener().open('opus', late, 1000 + OLD_KEYS_MS))).toBe('old-key');
  });

  test('whoever comes late opens the present key at once', async () => {
    const { sealer, opener } = await pair();
    for (let epoch = 0; epoch < 500; epoch += 1) sealer.rotate();
    expect(outcome(await opener().open('opus', await sealed(sealer), 0))).toBe('opened');
  });

  test('many in a row keep no more than a few keys', async () => {
    const { sealer, opener } = await pair();
    const early: Uint8Array<ArrayBuffer>[] = [];
    for (let epoch = 0; epoch < 40; epoch += 1) {
      sealer.rotate();
      early.push(await sealed(sealer));
      expect(outcome(await opener().open('opus', await sealed(sealer), epoch))).toBe('opened');
    }
    const outcomes = await Promise.all(
      early.map(async (frame) => outcome(await opener().open('opus', frame, 50))),
    );
    expect(outcomes.filter((one) => one === 'opened')).toHaveLength(16);
    expect(outcomes.slice(0, 24).every((one) => one === 'old-key')).toBe(true);
  });
});

describe('when the secret is exchanged', () => {
  test('both are taken for ten seconds, then only the new one', async () => {
    const { sealer, openers, opener } = await pair('a', 'a');
    const frames = [await sealed(sealer), await sealed(sealer), await sealed(sealer)] as const;
    expect(outcome(await opener().open('opus', frames[0], 0))).toBe('opened');
    openers.secrets.set(await secretOf('b'), 1000);
    expect(outcome(await opener().open('opus', frames[1], 2000))).toBe('opened');
    expect(outcome(await opener().open('opus', frames[2], 1000 + OLD_KEYS_MS))).not.toBe('opened');
    sealer.setSecret(await secretOf('b'));
    expect(outcome(await opener().open('opus', await sealed(sealer), 20_000))).toBe('opened');
  });

  test('a sender who was first is understood as soon as the receiver has it too', async () => {
    const { sealer, openers, opener } = await pair('a', 'a');
    expect(outcome(await opener().open('opus', await sealed(sealer), 0))).toBe('opened');
    sealer.setSecret(await secretOf('b'));
    expect(outcome(await opener().open('opus', await sealed(sealer), 10))).toBe('not-authentic');
    openers.secrets.set(await secretOf('b'), 20);
    expect(outcome(await opener().open('opus', await sealed(sealer), 30))).toBe('opened');
  });
});

test('what was played cannot be played again in a later track of the same session', async () => {
  const { sealer, openers, opener } = await pair();
  const bytes = await sealed(sealer);
  expect(outcome(await opener().open('opus', bytes, 0))).toBe('opened');
  // Other people’s tracks come and go meanwhile.
  for (let other = 0; other < 100; other += 1) {
    openers.of({ participantId: `p${other}`, salt: sealer.salt, source: 'camera' });
  }
  expect(outcome(await opener().open('opus', bytes, 0))).toBe('replayed');
});
