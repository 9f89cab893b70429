import { mkdir, readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { build } from 'vite';
import type { TestProject } from 'vitest/node';
import { CHROMIUM, CHROMIUM_SWITCHES } from './switches';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Where to connect to the one Chromium. */
    chromium: string;
    /** Where the pages of the harness are served, without a slash at the end. */
    pagesUrl: string;
  }
}

const browserDirectory = join(import.meta.dirname, '..');
const pagesDirectory = join(browserDirectory, 'out/pages');

/** OpenCall's own client is tried with the mediasoup-client that it was published with, and with that of today. */
export const HOOK_VERSIONS = {
  '3.7': 'mediasoup-client-3.7',
  '3.24': 'mediasoup-client',
} as const;

/** So are data channels, of which the two say different things. */
export const HARNESS_VERSIONS = HOOK_VERSIONS;

/** Builds the pages, serves them, and starts the browser that all files share. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  await mkdir(pagesDirectory, { recursive: true });
  await buildPage('harness', 'harness.ts');
  await buildPage('wish', 'wish.ts');
  await buildPage('harness-3.7', 'harness.ts', HARNESS_VERSIONS['3.7']);
  for (const [version, module] of Object.entries(HOOK_VERSIONS)) {
    await buildPage(`hook-${version}`, 'hook.ts', module);
  }
  const pages = await servePages();
  const browser = await chromium.launchServer({
    executablePath: CHROMIUM,
    args: CHROMIUM_SWITCHES,
    timeout: project.config.hookTimeout,
  });
  project.provide('chromium', browser.wsEndpoint());
  // Loopback by number: browsers take it for secure, and no name needs to be looked up.
  project.provide('pagesUrl', `http://127.0.0.1:${(pages.address() as AddressInfo).port}`);
  return async () => {
    await browser.close();
    pages.close();
  };
}

/** Builds one script of the harness, with one of the versions of mediasoup-client. */
async function buildPage(name: string, entry: string, module = 'mediasoup-client'): Promise<void> {
  await build({
    configFile: false,
    root: join(browserDirectory, 'harness'),
    logLevel: 'warn',
    resolve: { alias: { 'mediasoup-client': module } },
    define: { 'process.env.NODE_ENV': '"production"' },
    build: {
      outDir: pagesDirectory,
      emptyOutDir: false,
      target: 'es2022',
      minify: false,
      lib: {
        entry: join(browserDirectory, 'harness', entry),
        formats: ['iife'],
        name: 'opencallHarness',
        fileName: () => `${name}.js`,
      },
    },
  });
}

/** The scripts, and a page around each. */
async function servePages(): Promise<Server> {
  const names = [
    'harness',
    'wish',
    'harness-3.7',
    ...Object.keys(HOOK_VERSIONS).map((version) => `hook-${version}`),
  ];
  const server = createServer(async (request, response) => {
    const path = new URL(request.url ?? '/', 'http://x').pathname.slice(1);
    if (names.includes(path)) {
      response.writeHead(200, { 'content-type': 'text/html' }).end(pageAround(path));
    } else if (names.includes(path.replace(/\.js$/, ''))) {
      response.writeHead(200, { 'content-type': 'text/javascript' });
      response.end(await readFile(join(pagesDirectory, path)));
    } else {
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

function pageAround(script: string): string {
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <link rel="icon" href="data:," />
    <title>${script}</title>
  </head>
  <body>
    <script src="/${script}.js"></script>
  </body>
</html>
`;
}
