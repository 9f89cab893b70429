import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { openPage } from './support/chromium';
import { Nginx } from './support/nginx';
import { type Answer, get, openSocket } from './support/request';
import { TestServer } from './support/server';
import { newRoom } from './support/talk';
import { selfSigned } from './support/tls';
import { until } from './support/wait';

const out = join(import.meta.dirname, 'out/https');

/** Enters a meeting with the page that is served at `url`. */
async function enter(url: string, room: string, name: string): Promise<Page> {
  const page = await openPage();
  await page.goto(`${url}/?room=${room}&name=${name}&autojoin=1&height=180&fps=10`);
  return page;
}

/** Waits until the picture of someone else moves. */
async function seesSomeone(page: Page): Promise<void> {
  const frames = () =>
    page.evaluate(() => {
      const video = document.querySelector<HTMLVideoElement>('[data-local="false"] video');
      return video?.getVideoPlaybackQuality().totalVideoFrames ?? 0;
    });
  await until('pictures', frames, (count) => count >= 10);
}

/** Two people meet through `url`. */
async function meet(url: string): Promise<void> {
  const room = newRoom();
  const ann = await enter(url, room, 'Ann');
  const ben = await enter(url, room, 'Ben');
  await Promise.all([seesSomeone(ann), seesSomeone(ben)]);
  await Promise.all([ann.context().close(), ben.context().close()]);
}

test('Chromium meets over HTTPS and wss, which the server speaks itself', async () => {
  const { certificate, key } = selfSigned(out);
  const flags = [`--tls-cert-file=${certificate}`, `--tls-key-file=${key}`];
  const server = await TestServer.start({ name: 'https', flags, tls: true });
  try {
    expect(server.httpUrl).toMatch(/^https:/);
    const { headers } = await get(`${server.httpUrl}/`);
    expect(headers['strict-transport-security']).toMatch(/^max-age=/);
    await meet(server.httpUrl);
  } finally {
    await server.stop();
  }
});

test('Chromium meets behind nginx, and limits count the addresses behind it', async () => {
  // The harness's two people are one address.
  const flags = ['--trusted-proxy=127.0.0.1', '--sessions-per-address=2'];
  const server = await TestServer.start({ name: 'nginx', flags });
  const nginx = await Nginx.start(server, selfSigned(out), join(out, 'nginx'));
  const sockets: Answer[] = [];
  try {
    await meet(nginx.url);
    const open = async (localAddress: string) => {
      const answer = await openSocket(nginx.url, localAddress);
      sockets.push(answer);
      return answer.status;
    };
    expect(await open('127.0.0.2')).toBe(101);
    expect(await open('127.0.0.2')).toBe(101);
    expect(await open('127.0.0.2')).toBe(429);
    expect(await open('127.0.0.3')).toBe(101);
    // Strangers come through the proxy: they learn nothing, from here either.
    expect(JSON.parse((await get(`${nginx.url}/healthz`)).body)).toEqual({ status: 'ok' });
  } finally {
    for (const { socket } of sockets) socket?.destroy();
    nginx.stop();
    await server.stop();
  }
});
