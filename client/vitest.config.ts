import { defineConfig } from 'vitest/config';

export default defineConfig({
  // The time of these tests is not the machine's: this only ends what hangs.
  test: { include: ['tests/unit/**/*.test.{ts,tsx}'], environment: 'node', testTimeout: 60_000 },
});
