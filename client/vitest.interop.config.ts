import { defineConfig } from 'vitest/config';

/** Against other implementations, which are built for it: `scripts/prove`. */
export default defineConfig({
  test: { include: ['tests/interop/**/*.test.ts'], environment: 'node', testTimeout: 300_000 },
});
