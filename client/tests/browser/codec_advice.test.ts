import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openPage } from './support/chromium';
import { TestServer } from './support/server';
import { newRoom } from './support/talk';
import { until } from './support/wait';

let server: TestServer;
const pages: Page[] = [];

beforeAll(async () => {
  server = await TestServer.start({ name: 'codec_advice', flags: ['--codecs=opus,vp9,vp8'] });
});

afterAll(async () => {
  await Promise.all(pages.map((page) => page.close()));
  await server?.stop();
});

async function enter(name: string, room: string, camera: 0 | 1): Promise<Page> {
  const page = await openPage();
  pages.push(page);
  const settings = `autojoin=1&camera=${camera}&microphone=0`;
  await page.goto(`${server.httpUrl}/?room=${room}&name=${name}&${settings}`);
  return page;
}

/** Codec and scalability mode of what a page sends and encodes, as the browser has it. */
const encoded = (page: Page) =>
  page.evaluate(async () => {
    type Stats = Record<string, string | number | undefined>;
    const { send = [] } = ((await window.__meeting?.stats()) ?? {}) as { send?: Stats[] };
    const codec = (id: unknown) => send.find((one) => one.id === id)?.mimeType;
    return send
      .filter(
        ({ type, kind, framesEncoded }) =>
          type === 'outbound-rtp' && kind === 'video' && framesEncoded,
      )
      .map(({ codecId, scalabilityMode }) => `${codec(codecId)} ${scalabilityMode}`);
  });

/** Pictures that a page has decoded, in whatever codec. */
const decoded = (page: Page) =>
  page.evaluate(async () => {
    type Stats = Record<string, string | number | undefined>;
    const { recv = [] } = ((await window.__meeting?.stats()) ?? {}) as { recv?: Stats[] };
    return recv.reduce((sum, { framesDecoded }) => sum + Number(framesDecoded ?? 0), 0);
  });

/** Someone who receives VP8 alone comes from a page, without media. */
const joinWithoutVp9 = (page: Page, room: string) =>
  page.evaluate((room) => {
    const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/ws`);
    const ask = (id: string, name: string, data: object) => {
      const all = { meetingId: room, participantId: 'old', ...data };
      socket.send(JSON.stringify({ type: `mediasoup:${name}`, id, data: all }));
    };
    return new Promise<void>((resolve, reject) => {
      socket.onerror = () => reject(new Error('no server'));
      socket.onopen = () => ask('1', 'getRouterCapabilities', {});
      socket.onmessage = ({ data }) => {
        const frame = JSON.parse(String(data));
        if (frame.type === 'error') reject(new Error(frame.error));
        if (frame.id === '2') resolve();
        if (frame.id !== '1') return;
        const codecs = frame.data.codecs.filter(
          ({ mimeType }: { mimeType: string }) => mimeType !== 'video/VP9',
        );
        ask('2', 'setRtpCapabilities', { rtpCapabilities: { ...frame.data, codecs } });
      };
    });
  }, room);

test('the codec that is advised is sent, until someone comes who cannot decode it', async () => {
  const room = newRoom();
  const ann = await enter('Ann', room, 1);
  const ben = await enter('Ben', room, 0);
  const svc = await until(
    'VP9 is encoded',
    () => encoded(ann),
    (streams) => streams.length > 0,
  );
  expect(svc).toEqual(['video/VP9 L3T3_KEY']);
  await until(
    'Ben sees it',
    () => decoded(ben),
    (frames) => frames > 10,
  );
  await joinWithoutVp9(ben, room);
  // What was sent before stays in the browser's books.
  const streams = await until(
    'VP8 is encoded',
    () => encoded(ann),
    (streams) => streams.some((one) => one.startsWith('video/VP8')),
  );
  expect(streams.filter((one) => one !== 'video/VP9 L3T3_KEY')).toContain('video/VP8 L1T3');
  const before = await decoded(ben);
  await until(
    'Ben sees that, too',
    () => decoded(ben),
    (frames) => frames > before + 10,
  );
});
