import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { renderToString } from 'react-dom/server';
import { build, type Rolldown } from 'vite';
import { expect, test } from 'vitest';
import { MediasoupMeeting } from '../../src/index';

/** What people download before they can meet, kilobytes, compressed, with mediasoup-client. */
const SDK_KB = 61;

/** What is loaded when keys are those of an MLS group, kilobytes, compressed. */
const MLS_KB = 45;

/** Builds what imports only this of the SDK: what is loaded at once, and what is when it is used. */
async function bundle(code: string) {
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
  const later = chunks.filter((chunk) => !loaded.has(chunk));
  return { code: [...loaded].map(({ code }) => code).join('\n'), later };
}

const sdk = join(import.meta.dirname, '../../src/sdk/index.ts');
const root = join(import.meta.dirname, '../../src/index.ts');

test('the SDK without React is small', async () => {
  const { code, later } = await bundle(
    `import * as sdk from ${JSON.stringify(sdk)}; globalThis.sdk = sdk;`,
  );
  const kilobytes = gzipSync(code).length / 1024;
  console.info(`the SDK with mediasoup-client: ${kilobytes.toFixed(1)} KB, compressed`);
  expect(kilobytes).toBeGreaterThan(10);
  expect(kilobytes).toBeLessThan(SDK_KB);

  const isMls = (name: string) => /ts-mls|@hpke|e2ee\/mls/.test(name);
  const mls = later.filter(({ moduleIds }) => moduleIds.some(isMls));
  const mlsKilobytes = mls.reduce((sum, { code }) => sum + gzipSync(code).length / 1024, 0);
  console.info(`MLS, loaded when it is used: ${mlsKilobytes.toFixed(1)} KB, compressed`);
  expect(mlsKilobytes).toBeGreaterThan(10);
  expect(mlsKilobytes).toBeLessThan(MLS_KB);
  expect(code).not.toContain('MLS_128_DHKEMX25519');
});

test('what is not used is left out, also of the root', async () => {
  const { code } = await bundle(
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
