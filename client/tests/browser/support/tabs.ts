import type { Page } from 'playwright-core';
import { afterAll, afterEach } from 'vitest';
import { openPage } from './chromium';
import { launchFirefox } from './firefox';

type Firefox = Awaited<ReturnType<typeof launchFirefox>>;

/** The tabs of a file of tests. */
export interface Tabs {
  /** A tab of Chromium with nothing in it, which is closed after the test. */
  blank(): Promise<Page>;
  /** One with a page in it, before which `prepare` runs there. */
  open(address: string, ...prepare: (() => void)[]): Promise<Page>;
  /** Firefox, one for all tests of the file. */
  firefox(): Promise<Firefox>;
}

/** Call it where the tests are declared. */
export function tabsOfTests(): Tabs {
  const pages: Page[] = [];
  let firefox: Promise<Firefox> | undefined;
  afterEach(async () => {
    await Promise.all(pages.splice(0).map((page) => page.close()));
  });
  afterAll(async () => {
    await (await firefox)?.close();
  });
  const blank = async () => {
    const page = await openPage();
    pages.push(page);
    return page;
  };
  return {
    blank,
    open: async (address, ...prepare) => {
      const page = await blank();
      for (const script of prepare) await page.addInitScript(script);
      await page.goto(address);
      return page;
    },
    firefox: () => {
      firefox ??= launchFirefox();
      return firefox;
    },
  };
}
