import { defineConfig } from 'vitest/config';
import { measureSlowness } from './tests/browser/support/machine.ts';

/** On the machine on which it was chosen nothing takes a tenth of it. */
const CEILING_MS = 30_000;

const ceilingMs = Math.round(CEILING_MS * measureSlowness());

/** Clients in Node.js against the real server: no browser, no media. */
export default defineConfig({
  test: {
    include: ['tests/server/**/*.test.ts'],
    environment: 'node',
    provide: { ceilingMs },
    testTimeout: ceilingMs,
    hookTimeout: ceilingMs,
  },
});
