import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build, type Rolldown } from 'vite';
import { expect, test } from 'vitest';

/** Every participant loads it before the first frame leaves. */
const MAX_WORKER_BYTES = 10 * 1024;

test('the encryption worker is small, and one file', async () => {
  const built = (await build({
    configFile: false,
    logLevel: 'silent',
    build: {
      write: false,
      target: 'es2022',
      rollupOptions: { input: join(import.meta.dirname, '../../../src/e2ee/worker.ts') },
    },
  })) as Rolldown.RolldownOutput;
  expect(built.output).toHaveLength(1);
  const [worker] = built.output;
  const bytes = gzipSync(worker.code).length;
  console.info(`the encryption worker: ${bytes} bytes, compressed`);
  expect(bytes).toBeGreaterThan(1024);
  expect(bytes).toBeLessThan(MAX_WORKER_BYTES);
});
