import puppeteer, { type Browser } from 'puppeteer-core';
import { inject } from 'vitest';
import type { CallHarness } from './chromium';

/** A Firefox with invented devices that asks nothing and may use loopback. */
export async function openFirefox(): Promise<{ call: CallHarness; close: () => Promise<void> }> {
  const browser: Browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: process.env.OPENCALL_FIREFOX ?? '/usr/bin/firefox-esr',
    headless: true,
    extraPrefsFirefox: {
      'media.navigator.streams.fake': true,
      'media.navigator.permission.disabled': true,
      'media.autoplay.default': 0,
      'media.peerconnection.ice.loopback': true,
      'media.peerconnection.ice.obfuscate_host_addresses': false,
      // Nothing is fetched from outside: no codecs, no updates, no portal checks.
      'media.gmp-manager.updateEnabled': false,
      'media.gmp-gmpopenh264.enabled': false,
      'network.captive-portal-service.enabled': false,
      'network.connectivity-service.enabled': false,
    },
  });
  const page = await browser.newPage();
  await page.goto(inject('harnessUrl'));
  const call = (name: string, ...args: unknown[]) =>
    page.evaluate(
      (name: string, args: unknown[]) => {
        const functions = window.harness as unknown as Record<
          string,
          (...args: unknown[]) => Promise<unknown>
        >;
        return functions[name]?.(...args);
      },
      name,
      args,
    );
  return { call: call as CallHarness, close: () => browser.close() };
}
