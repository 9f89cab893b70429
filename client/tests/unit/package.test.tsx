import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { renderToString } from 'react-dom/server';
import { build, type Rolldown } from 'vite';
import { expect, test } from 'vitest';
import { MediasoupMeeting } from '../../src/index';

/** What people download before they can meet, kilobytes, compressed, with mediasoup-client. */
const SDK_KB = 60;

/** Builds what imports only this of the SDK: what is loaded at once, without what is loaded when it is used. */
async function bundle(code: string): Promise<string> {
  const entry = '\0entry';
  const result = (await build({
    configFile: false,
    logLevel: 'silent',
    root: join(import.meta.dirname, '../..'),
    plugins: [
      {
        name: 'entry',
        resolveId: (id) => (id === 'entry' ? entry : undefined),
        load: (id) => (id === entry ? code : undefined),
      },
    ],
    build: { write: false, target: 'es2022', rolldownOptions: { input: 'entry' } },
  })) as Rolldown.RolldownOutput;
  const chunks = result.output.filter((file) => file.type === 'chunk');
  const loaded = new Set(chunks.filter(({ isEntry }) => isEntry));
  for (const { imports } of loaded) {
    for (const chunk of chunks) if (imports.includes(chunk.fileName)) loaded.add(chunk);
  }
  return [...loaded].map(({ code }) => code).join('\n');
}

const sdk = join(import.meta.dirname, '../../src/sdk/index.ts');
const root = join(import.meta.dirname, '../../src/index.ts');

test('the SDK without React is small', async () => {
  const code = await bundle(`import * as sdk from ${JSON.stringify(sdk)}; globalThis.sdk = sdk;`);
  const kilobytes = gzipSync(code).length / 1024;
  console.info(`the SDK with mediasoup-client: ${kilobytes.toFixed(1)} KB, compressed`);
  expect(kilobytes).toBeGreaterThan(10);
  expect(kilobytes).toBeLessThan(SDK_KB);
});

test('what is not used is left out, also of the root', async () => {
  const code = await bundle(
    `import { spatialLayerFor } from ${JSON.stringify(root)}; globalThis.f = spatialLayerFor;`,
  );
  expect(code.length).toBeLessThan(1_000);
});

test('it is rendered on a server, where there is no page', () => {
  const meeting = { meetingId: 'm', participantId: 'p', displayName: 'Ann' };
  const html = renderToString(<MediasoupMeeting {...meeting} enableEncryption />);
  expect(html).toContain('oc-meeting');
  expect(html).toContain('Ann');
});
