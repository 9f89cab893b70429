import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['tests/browser/**/*.test.ts'],
    environment: 'node',
    globalSetup: 'tests/browser/support/global-setup.ts',
    // One browser and one server at a time: what is measured must not compete with itself.
    fileParallelism: false,
    testTimeout: 40_000,
    hookTimeout: 60_000,
    reporters: ['verbose'],
  },
});
