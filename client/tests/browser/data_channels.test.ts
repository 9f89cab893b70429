import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DialectName } from './harness/dialects';
import type { Message } from './harness/harness';
import { type CallHarness, openHarness } from './support/chromium';
import { HARNESS_VERSIONS } from './support/global-setup';
import { TestServer } from './support/server';
import { newRoom } from './support/talk';
import { until } from './support/wait';

let server: TestServer;

beforeAll(async () => {
  server = await TestServer.start({ name: 'data-channels' });
});

afterAll(() => server?.stop());

/** The largest message that browsers send. */
const LARGEST = 262_144;

const dialects: DialectName[] = ['old protoo', 'new protoo', 'opencall'];

/** Waits until a peer has so many messages, and looks at them. */
async function heard(call: CallHarness, peer: string, count: number): Promise<Message[]> {
  return until(
    `${count} messages`,
    () => call('messages', peer),
    (messages) => messages.length >= count,
  );
}

/** Waits until a peer can hear a channel: one that asks for what it wants misses what came before. */
async function listens(call: CallHarness, peer: string, channel: string): Promise<void> {
  await until(
    'an open channel',
    () => call('openChannels', peer),
    (channels) => channels.includes(channel),
  );
}

const texts = (messages: Message[]) => messages.map(({ text }) => text);

describe.each(Object.keys(HARNESS_VERSIONS))('with mediasoup-client %s', (version) => {
  describe.each(dialects)('in a room that speaks %s', (dialect) => {
    test('texts, bytes, nothing and the largest message arrive in order', async () => {
      const call = await openHarness(version);
      const room = newRoom();
      const [ann, ben] = [`${room}-ann`, `${room}-ben`];
      for (const peer of [ann, ben]) await call('open', peer, dialect, server.wsUrl, room);
      const channel = await call('openChannel', ann, {});
      await listens(call, ben, channel);
      await call('say', ann, channel, ['grüß dich', '', 0, 3, LARGEST, 'end']);
      const messages = await heard(call, ben, 6);
      const sum = (255 / 2) * LARGEST;
      expect(messages.map(({ kind, bytes }) => [kind, bytes])).toEqual([
        ['text', 9],
        ['text', 0],
        ['bytes', 0],
        ['bytes', 3],
        ['bytes', LARGEST],
        ['text', 3],
      ]);
      expect(messages[4]?.sum).toBe(sum);
      expect(messages[0]?.text).toBe('grüß dich');
      expect(messages.every((message) => message.dataProducerId === channel)).toBe(true);
      await call('closeAll');
    });

    test('lossy channels of all kinds deliver, and late joiners are offered them', async () => {
      const call = await openHarness(version);
      const room = newRoom();
      const [ann, ben] = [`${room}-ann`, `${room}-ben`];
      await call('open', ann, dialect, server.wsUrl, room);
      const lossy = [
        { label: 'a', ordered: false, maxRetransmits: 0 },
        { label: 'b', ordered: false, maxRetransmits: 3 },
        { label: 'c', ordered: false, maxPacketLifeTime: 1000 },
        { label: 'd', ordered: false },
      ];
      const channels = new Map<string, string>();
      for (const options of lossy) {
        channels.set(options.label, await call('openChannel', ann, options));
      }
      await call('open', ben, dialect, server.wsUrl, room);
      for (const [label, channel] of channels) {
        await until(
          `${label} arrives`,
          async () => {
            // What comes before a late joiner's channel is open is lost on a lossy one.
            await call('say', ann, channel, [label]);
            return call('messages', ben);
          },
          (messages) => messages.some((message) => message.label === label),
        );
      }
      await call('closeAll');
    });

    test('a producer that closes ends its consumers, and the next one works', async () => {
      const call = await openHarness(version);
      const room = newRoom();
      const [ann, ben] = [`${room}-ann`, `${room}-ben`];
      for (const peer of [ann, ben]) await call('open', peer, dialect, server.wsUrl, room);
      const first = await call('openChannel', ann, {});
      await listens(call, ben, first);
      await call('say', ann, first, ['one']);
      await heard(call, ben, 1);
      // No request says so: the channel itself does, in SCTP.
      await call('closeChannel', ann, first);
      await until(
        'the end of the channel',
        () => call('said', ben),
        (said) => said.some(({ name }) => name === 'dataConsumerClosed'),
      );
      const second = await call('openChannel', ann, {});
      await listens(call, ben, second);
      await call('say', ann, second, ['two']);
      expect(texts(await heard(call, ben, 2))).toEqual(['one', 'two']);
      await call('closeAll');
    });
  });
});

test('everyone in a room hears everyone else, in all dialects at once, beside media', async () => {
  const call = await openHarness();
  const room = newRoom();
  for (const dialect of dialects) {
    await call('open', dialect, dialect, server.wsUrl, room);
    await call('sendAudio', dialect);
  }
  for (const sender of dialects) {
    const channel = await call('openChannel', sender, { label: sender });
    for (const receiver of dialects.filter((other) => other !== sender)) {
      await listens(call, receiver, channel);
    }
    await call(
      'say',
      sender,
      channel,
      Array.from({ length: 100 }, (_, n) => `${sender} ${n}`),
    );
  }
  for (const receiver of dialects) {
    const messages = await heard(call, receiver, 200);
    for (const sender of dialects.filter((other) => other !== receiver)) {
      const said = texts(messages.filter(({ label }) => label === sender));
      expect(said).toEqual(Array.from({ length: 100 }, (_, n) => `${sender} ${n}`));
    }
  }
  await call('closeAll');
});
