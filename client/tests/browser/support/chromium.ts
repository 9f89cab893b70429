import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, inject } from 'vitest';
import type { Harness } from '../harness/harness';
import type { Hook } from '../harness/hook';
import type { Wish } from '../harness/wish';
import { ceilingMs } from './wait';

let browser: Promise<Browser> | undefined;

afterAll(async () => {
  await (await browser)?.close();
  browser = undefined;
});

/** A new page in a world of its own, as another person's browser would be. */
export async function openPage(options: { width?: number; height?: number } = {}): Promise<Page> {
  browser ??= chromium.connect(inject('chromium'), { timeout: ceilingMs() });
  const context = await (await browser).newContext({
    viewport: { width: options.width ?? 1280, height: options.height ?? 720 },
    // The certificates of the tests are signed by nobody.
    ignoreHTTPSErrors: true,
  });
  context.setDefaultTimeout(ceilingMs());
  const page = await context.newPage();
  page.on('pageerror', (error) => console.error(`in the page: ${error.message}`));
  return page;
}

/** Calls a function of the harness in the page. */
export type CallHarness = <Name extends keyof Harness>(
  name: Name,
  ...args: Parameters<Harness[Name]>
) => Promise<Awaited<ReturnType<Harness[Name]>>>;

/** Calls a function of OpenCall's own client in the page. */
export type CallHook = <Name extends keyof Hook>(
  name: Name,
  ...args: Parameters<Hook[Name]>
) => Promise<Awaited<ReturnType<Hook[Name]>>>;

/** Calls a function of those who publish by WHIP and watch by WHEP in the page. */
export type CallWish = <Name extends keyof Wish>(
  name: Name,
  ...args: Parameters<Wish[Name]>
) => Promise<Awaited<ReturnType<Wish[Name]>>>;

/** A page of a browser, whichever drives it. */
interface Evaluating {
  evaluate(inPage: (called: Called) => unknown, called: Called): Promise<unknown>;
}

/** Where it is, what it is called, and with what. */
type Called = [world: World, name: string, args: unknown[]];

type World = 'harness' | 'hook' | 'wish';

/** What there is to call in a page: `window.harness`, for example. */
export function callerOf<Call>(page: Evaluating, world: World): Call {
  const call = (name: string, ...args: unknown[]) =>
    page.evaluate(
      ([world, name, args]) => {
        const functions = window[world] as unknown as Record<
          string,
          (...args: unknown[]) => Promise<unknown>
        >;
        return functions[name]?.(...args);
      },
      [world, name, args],
    );
  return call as Call;
}

/** A page of the harness. */
async function openOwnPage(name: string): Promise<Page> {
  const page = await openPage();
  page.on('console', (message) => {
    if (message.type() === 'error') console.error(`in the page: ${message.text()}`);
  });
  await page.goto(`${inject('pagesUrl')}/${name}`);
  return page;
}

/** A page with OpenCall's own client in it, ready for any number of participants. */
export async function openHook(version: string): Promise<CallHook> {
  return callerOf(await openOwnPage(`hook-${version}`), 'hook');
}

/** A page with the harness in it, ready for any number of peers; with today's mediasoup-client unless told. */
export async function openHarness(version = '3.24'): Promise<CallHarness> {
  const name = version === '3.24' ? 'harness' : `harness-${version}`;
  return callerOf(await openOwnPage(name), 'harness');
}

/**
 * A page with clients for WHIP and WHEP in it; of the origin that servers of tests allow, unless told. What it is refused
 * is no error: the tests look at that.
 */
export async function openWish(origin = inject('pagesUrl')): Promise<CallWish> {
  const page = await openPage();
  await page.goto(`${origin}/wish`);
  return callerOf(page, 'wish');
}
