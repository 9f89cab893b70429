import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import react from '@vitejs/plugin-react';
import { build, type Rolldown } from 'vite';
import { expect, test } from 'vitest';
import config from '../../vite.config.ts';

/** What is loaded before the lobby is there, kilobytes, as the server compresses it. */
const PAGE_KB = 180;

test('the meeting page is small: its scripts, its styles, and the encryption worker', async () => {
  const root = join(import.meta.dirname, '../..');
  const result = (await build({
    root,
    configFile: false,
    mode: 'production',
    plugins: [react()],
    define: { 'process.env.NODE_ENV': '"production"' },
    logLevel: 'silent',
    build: { ...config.build, write: false, rolldownOptions: { input: join(root, 'index.html') } },
  })) as Rolldown.RolldownOutput;
  const chunks = result.output.filter((file) => file.type === 'chunk');
  const entry = chunks.find(({ isEntry }) => isEntry);
  expect(entry).toBeDefined();
  // What is imported when it is needed is not loaded before.
  const loaded = new Set(entry ? [entry.fileName] : []);
  for (const name of loaded) {
    for (const next of chunks.find(({ fileName }) => fileName === name)?.imports ?? []) {
      loaded.add(next);
    }
  }
  const sizes = result.output.flatMap((file): [string, number][] => {
    const isLoaded = file.type === 'chunk' ? loaded.has(file.fileName) : isAsset(file.fileName);
    const bytes = file.type === 'chunk' ? file.code : file.source;
    return isLoaded ? [[file.fileName, gzipSync(bytes).length / 1024]] : [];
  });
  const all = sizes.reduce((sum, [, size]) => sum + size, 0);
  console.info(`the page: ${all.toFixed(1)} KB compressed, ${sizes.length} files`);
  expect(sizes.some(([name]) => name.endsWith('.css'))).toBe(true);
  expect(sizes.some(([name]) => name.includes('worker'))).toBe(true);
  expect(all).toBeLessThan(PAGE_KB);
});

function isAsset(name: string): boolean {
  return /\.(css|js|html)$/.test(name);
}
