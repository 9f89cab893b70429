import { copyFile, mkdir, readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { build } from 'vite';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Where to connect to the one Chromium. */
    chromium: string;
    /** Where the harness page is served. */
    harnessUrl: string;
  }
}

const browserDirectory = join(import.meta.dirname, '..');
const out = join(browserDirectory, 'out');

/** Chromium's switches: invented devices, no questions, real addresses, nothing fetched from outside. */
const CHROMIUM_SWITCHES = [
  '--no-sandbox',
  '--use-fake-ui-for-media-stream',
  '--use-fake-device-for-media-stream',
  '--auto-select-desktop-capture-source=Entire screen',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-quic',
  '--autoplay-policy=no-user-gesture-required',
  '--disable-features=WebRtcHideLocalIpsWithMdns',
];

/** Builds the harness, serves it, and starts the browser that all files share. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  await mkdir(out, { recursive: true });
  await buildHarness();
  const pages = await servePages();
  const browser = await chromium.launchServer({
    executablePath: process.env.OPENCALL_CHROMIUM ?? '/usr/bin/chromium',
    args: CHROMIUM_SWITCHES,
  });
  project.provide('chromium', browser.wsEndpoint());
  // Loopback by number: browsers take it for secure, and no name needs to be looked up.
  project.provide('harnessUrl', `http://127.0.0.1:${(pages.address() as AddressInfo).port}/`);
  return async () => {
    await browser.close();
    pages.close();
  };
}

async function buildHarness(): Promise<void> {
  await build({
    configFile: false,
    root: join(browserDirectory, 'harness'),
    logLevel: 'warn',
    define: { 'process.env.NODE_ENV': '"production"' },
    build: {
      outDir: join(out, 'harness'),
      emptyOutDir: true,
      target: 'es2022',
      minify: false,
      lib: {
        entry: join(browserDirectory, 'harness/harness.ts'),
        formats: ['iife'],
        name: 'opencallHarness',
        fileName: () => 'harness.js',
      },
    },
  });
  await copyFile(join(browserDirectory, 'harness/index.html'), join(out, 'harness/index.html'));
}

/** The two files of the harness; everything else is not there. */
async function servePages(): Promise<Server> {
  const server = createServer(async (request, response) => {
    const path = new URL(request.url ?? '/', 'http://x').pathname;
    const file = { '/': 'index.html', '/harness.js': 'harness.js' }[path];
    if (!file) {
      response.writeHead(404).end();
      return;
    }
    const type = file.endsWith('.js') ? 'text/javascript' : 'text/html';
    response.writeHead(200, { 'content-type': type });
    response.end(await readFile(join(out, 'harness', file)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}
