import { defineConfig } from 'vitest/config';
import browser from './vitest.browser.config.ts';

/** Pictures of the states of the page, to be looked at: `npm run pictures`. */
export default defineConfig({
  test: { ...browser.test, include: ['tests/pictures/**/*.test.ts'] },
});
