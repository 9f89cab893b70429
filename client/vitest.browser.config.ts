import { defineConfig } from 'vitest/config';
import { measureSlowness } from './tests/browser/support/machine.ts';

/** On the machine on which it was chosen nothing takes a tenth of it. */
const CEILING_MS = 60_000;

const ceilingMs = Math.round(CEILING_MS * measureSlowness());

export default defineConfig({
  test: {
    include: ['tests/browser/**/*.test.ts'],
    environment: 'node',
    globalSetup: 'tests/browser/support/global-setup.ts',
    provide: { ceilingMs },
    // One browser and one server at a time: what is measured must not compete with itself.
    fileParallelism: false,
    // Each wait of a test has its own ceiling and says what it waited for: these only end what hangs without a word.
    testTimeout: 10 * ceilingMs,
    hookTimeout: 3 * ceilingMs,
    reporters: ['verbose'],
  },
});
