import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { build } from 'vite';
import { beforeAll, expect, test } from 'vitest';
import { openPage } from './support/chromium';
import { TestServer } from './support/server';
import { cases } from './support/timing';
import { until } from './support/wait';

const client = join(import.meta.dirname, '../..');
const out = join(import.meta.dirname, 'out');

beforeAll(async () => {
  await build({ configFile: join(client, 'vite.lib.config.ts'), root: client, logLevel: 'warn' });
});

/** Builds the application as Vite does without being told anything but which React; the React modules in it. */
async function buildApp(version: 18 | 19): Promise<string[]> {
  const [react, reactDom] = version === 18 ? ['react-18', 'react-dom-18'] : ['react', 'react-dom'];
  const modules: string[] = [];
  const root = join(import.meta.dirname, 'bare');
  await build({
    configFile: false,
    root,
    logLevel: 'warn',
    mode: 'development',
    define: { 'process.env.NODE_ENV': '"development"' },
    oxc: { jsx: { runtime: 'automatic', development: false } },
    resolve: {
      alias: [
        { find: /^@opencall\/client$/, replacement: join(client, 'lib/index.js') },
        { find: /^react(?=$|\/)/, replacement: join(client, 'node_modules', react as string) },
        {
          find: /^react-dom(?=$|\/)/,
          replacement: join(client, 'node_modules', reactDom as string),
        },
      ],
    },
    plugins: [
      {
        name: 'note-react',
        generateBundle() {
          for (const id of this.getModuleIds()) {
            if (/node_modules\/react(-18)?\/cjs\/react\.development\.js/.test(id)) modules.push(id);
          }
        },
      },
    ],
    build: {
      outDir: join(out, `bare-${version}`),
      emptyOutDir: true,
      minify: false,
      rolldownOptions: { input: [join(root, 'index.html'), join(root, 'second.html')] },
    },
  });
  return modules;
}

/** Pictures of the other person that were decoded. */
async function moves(page: Page, name: string) {
  const frames = () =>
    page.evaluate((name) => {
      const tiles = [...document.querySelectorAll('.oc-tile[data-local="false"]')];
      const tile = tiles.find((one) => one.querySelector('.oc-name span')?.textContent === name);
      return tile?.querySelector('video')?.getVideoPlaybackQuality().totalVideoFrames ?? 0;
    }, name);
  const before = await frames();
  await until(`${name} moves`, frames, (now) => now > before + 5);
}

test.each(cases([19, 18] as const, 1))(
  'OpenCall’s snippet runs unchanged with React %i',
  async (version) => {
    expect(await buildApp(version)).toHaveLength(1);
    const server = await TestServer.start({
      name: `bare-${version}`,
      flags: [`--page-dir=${join(out, `bare-${version}`)}`],
      pageDir: false,
    });
    const said: string[] = [];
    const open = async (path: string) => {
      const page = await openPage();
      page.on('console', (message) => said.push(`${message.type()}: ${message.text()}`));
      page.on('pageerror', (error) => said.push(`error: ${error.message}`));
      await page.goto(`${server.httpUrl}/${path}`);
      return page;
    };
    try {
      const john = await open('');
      await john.waitForSelector('.oc-meeting[data-status="joined"]');
      const { hash } = new URL(john.url());
      expect(hash).toMatch(/^#k=/);
      const jane = await open(`second.html${hash}`);
      await Promise.all([moves(jane, 'John Doe'), moves(john, 'Jane Roe')]);
      expect(await john.locator('.oc-encryption').getAttribute('data-encryption')).toBe('on');
      // Its styles are there while it is, and nothing had to be imported for them.
      const sheets = () => john.evaluate(() => document.adoptedStyleSheets.length);
      expect(await sheets()).toBe(1);
      await john.screenshot({ path: join(out, `bare-${version}.png`) });
      await john.click('[data-control="leave"]');
      await until(
        'John is gone',
        () => jane.locator('.oc-tile[data-local="false"]').count(),
        (count) => count === 0,
      );
      expect(said).toContain('log: Left meeting');
      expect(said.filter((line) => /^(warning|error)/.test(line))).toEqual([]);
      await Promise.all([john.close(), jane.close()]);
    } finally {
      expect(await server.stop()).toBe(0);
    }
  },
);
