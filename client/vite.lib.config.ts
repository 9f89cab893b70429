import react from '@vitejs/plugin-react';
import { defineConfig, type Plugin } from 'vite';

/** Names the worker in the way in which all bundlers look for workers. */
function plainWorkerUrl(): Plugin {
  return {
    name: 'plain-worker-url',
    generateBundle(_, bundle) {
      let found = 0;
      for (const chunk of Object.values(bundle)) {
        if (chunk.type !== 'chunk') continue;
        chunk.code = chunk.code.replace(
          /new Worker\(new URL\([^;]*?(["'`][^"'`]*worker\.js["'`])[^;]*?, \{ type: "module" \}\)/g,
          (_, path: string) => {
            found += 1;
            return `new Worker(new URL(${path}, import.meta.url), { type: "module" })`;
          },
        );
      }
      if (found !== 1) this.error(`the encryption worker is started in ${found} places`);
    },
  };
}

/** The package: modules for bundlers, and the encryption worker as a file beside them. */
export default defineConfig({
  plugins: [react(), plainWorkerUrl()],
  // The worker is found relative to the module that starts it.
  base: './',
  publicDir: false,
  worker: { format: 'es', rolldownOptions: { output: { entryFileNames: 'worker.js' } } },
  build: {
    target: 'es2022',
    cssTarget: ['chrome125', 'firefox125', 'safari17.5'],
    outDir: 'lib',
    minify: false,
    lib: {
      entry: {
        index: 'src/index.ts',
        sdk: 'src/sdk/index.ts',
        react: 'src/react/index.ts',
        opencall: 'src/opencall/index.ts',
      },
      formats: ['es'],
    },
    rolldownOptions: {
      external: [
        /^@noble\//,
        /^@hpke\//,
        /^ts-mls($|\/)/,
        /^react($|\/)/,
        /^react-dom($|\/)/,
        /^mediasoup-client($|\/)/,
      ],
      output: { preserveModules: true, preserveModulesRoot: 'src', entryFileNames: '[name].js' },
    },
  },
});
