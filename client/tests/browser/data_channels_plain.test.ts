import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DialectName } from './harness/dialects';
import { type CallHarness, openHarness } from './support/chromium';
import { openFirefox, ownAddress } from './support/firefox';
import { AiortcDataPeer } from './support/python';
import { TestServer } from './support/server';
import { newRoom } from './support/talk';
import { until } from './support/wait';

let server: TestServer;
let chromium: CallHarness;
let firefox: CallHarness;
let closeFirefox: () => Promise<void>;

beforeAll(async () => {
  server = await TestServer.start({ name: 'data-channels-plain', mediaIp: ownAddress() });
  chromium = await openHarness();
  ({ call: firefox, close: closeFirefox } = await openFirefox());
});

afterAll(async () => {
  await closeFirefox?.();
  expect(await server?.stop(), 'exit status of the server').toBe(0);
});

/** The largest message that browsers send. */
const LARGEST = 262_144;

/** Waits until a plain peer has heard so many messages on a channel of this name. */
async function plainHeard(call: CallHarness, peer: string, label: string, count: number) {
  const messages = await until(
    `${count} messages on ${label}`,
    async () => (await call('plainMessages', peer)).filter((message) => message.label === label),
    (messages) => messages.length >= count,
  );
  return messages.map(({ text, bytes }) => text ?? bytes);
}

async function heard(call: CallHarness, peer: string, label: string, count: number) {
  const messages = await until(
    `${count} messages on ${label}`,
    async () => (await call('messages', peer)).filter((message) => message.label === label),
    (messages) => messages.length >= count,
  );
  return messages.map(({ text, bytes }) => text ?? bytes);
}

/** Waits until a peer that asks for what it wants can hear a channel. */
async function listens(call: CallHarness, peer: string, channel: string): Promise<void> {
  await until(
    'an open channel',
    () => call('openChannels', peer),
    (channels) => channels.includes(channel),
  );
}

test.each([
  ['Chromium', 'old protoo'],
  ['Firefox', 'new protoo'],
] as [string, DialectName][])(
  'plain peer connections in %s and mediasoup-client, speaking %s, hear each other',
  async (browser, dialect) => {
    const call = browser === 'Chromium' ? chromium : firefox;
    const room = newRoom();
    const [plain, other, ben] = [`${room}-plain`, `${room}-other`, `${room}-ben`];
    await call('plainOpen', plain, server.wsUrl, room, 'from plain');
    await chromium('open', ben, dialect, server.wsUrl, room);
    await chromium('plainOpen', other, server.wsUrl, room, 'from other');

    const said = ['grüß dich', 0, 3, LARGEST, 'end'];
    await call('plainSay', plain, 'from plain', said);
    expect(await heard(chromium, ben, 'from plain', 5)).toEqual(said);
    expect(await plainHeard(chromium, other, 'from plain', 5)).toEqual(said);

    // Both ways, and each channel as it was opened.
    const channel = await chromium('openChannel', ben, { label: 'lossy', maxRetransmits: 3 });
    const taken = await until(
      'both channels of the others',
      async () => (await call('plainChannels', plain)).filter(({ id }) => (id ?? 0) % 2 === 1),
      (channels) => channels.length === 2,
    );
    const lossy = taken.find(({ label }) => label === 'lossy');
    expect(lossy).toMatchObject({ ordered: false, maxRetransmits: 3, readyState: 'open' });
    await chromium('say', ben, channel, ['one', 7]);
    expect(await plainHeard(call, plain, 'lossy', 2)).toEqual(['one', 7]);
    await call('plainCreate', plain, 'brief', { ordered: true, maxPacketLifeTime: 100 });
    const brief = await until(
      'the brief channel',
      async () => (await chromium('plainChannels', other)).find(({ label }) => label === 'brief'),
      (found) => found?.readyState === 'open',
    );
    expect(brief).toMatchObject({ ordered: true, maxPacketLifeTime: 100 });

    // What is said right before the end is heard, and then the channel ends for everyone.
    await call('plainSay', plain, 'from plain', ['bye', 65_536], true);
    expect((await plainHeard(chromium, other, 'from plain', 7)).slice(5)).toEqual(['bye', 65_536]);
    await until(
      'the end of the channel',
      async () =>
        (await chromium('plainChannels', other)).find(({ label }) => label === 'from plain'),
      (found) => found?.readyState === 'closed',
    );
    await until(
      'its end at mediasoup-client',
      () => chromium('said', ben),
      (said) => said.some(({ name }) => name === 'dataConsumerClosed'),
    );
    // A number may be used again.
    await call('plainCreate', plain, 'next', {});
    await call('plainSay', plain, 'next', ['again']);
    expect(await plainHeard(chromium, other, 'next', 1)).toEqual(['again']);
    await call('plainClose', plain);
    await chromium('plainClose', other);
    await chromium('close', ben);
  },
);

test('Firefox with mediasoup-client and Chromium carry text, bytes, nothing and the largest', async () => {
  const room = newRoom();
  const [ann, ben] = [`${room}-ann`, `${room}-ben`];
  await firefox('open', ann, 'opencall', server.wsUrl, room);
  await chromium('open', ben, 'new protoo', server.wsUrl, room);
  const said = ['grüß dich', '', 0, 3, LARGEST, 'end'];
  for (const [from, sender, to, receiver] of [
    [firefox, ann, chromium, ben],
    [chromium, ben, firefox, ann],
  ] as const) {
    const channel = await from('openChannel', sender, { label: sender });
    await listens(to, receiver, channel);
    await from('say', sender, channel, said);
    expect(await heard(to, receiver, sender, said.length)).toEqual(said);
  }
  await firefox('close', ann);
  await chromium('close', ben);
});

test('aiortc opens and takes channels', async () => {
  const room = newRoom();
  const ben = `${room}-ben`;
  await chromium('open', ben, 'new protoo', server.wsUrl, room);
  const peer = new AiortcDataPeer('aiortc-data', server.wsUrl, room, `${room}-aiortc`);
  try {
    expect(await heard(chromium, ben, 'from aiortc', 4)).toEqual(['hello', 3, '', 100_000]);
    const channel = await chromium('openChannel', ben, { label: 'from ben' });
    await chromium('say', ben, channel, ['hello', '', 3, 100_000]);
    const report = await until(
      'aiortc hears ben',
      () => peer.report(),
      (report) => (report?.messages.length ?? 0) >= 4,
    );
    expect(report?.messages).toEqual([
      ['from ben', 'hello'],
      ['from ben', ''],
      ['from ben', 3],
      ['from ben', 100_000],
    ]);
    expect(report?.channels['from ben']).toEqual({ id: 1, ordered: true, state: 'open' });
    await chromium('closeChannel', ben, channel);
    await until(
      'aiortc sees the end of the channel',
      () => peer.report(),
      (report) => report?.channels['from ben']?.state === 'closed',
    );
    expect(await peer.stop(), 'exit status of the peer').toBe(0);
  } finally {
    await peer.stop();
  }
  await chromium('close', ben);
});
