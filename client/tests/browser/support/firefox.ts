import { networkInterfaces } from 'node:os';
import puppeteer, { type Browser, type Page } from 'puppeteer-core';
import { inject } from 'vitest';
import { type CallHarness, callerOf } from './chromium';
import { ceilingMs } from './wait';

/**
 * An address of this machine that is not loopback: Firefox 153 gathers no loopback candidates, whatever its preferences
 * say, and pairs none of the others with loopback. Packets to it do not leave the machine.
 */
export function ownAddress(): string {
  const found = Object.values(networkInterfaces())
    .flat()
    .find((address) => address && !address.internal && address.family === 'IPv4');
  if (!found) throw new Error('Firefox needs a network interface beside loopback; there is none');
  return found.address;
}

/** A Firefox with the harness in a page of it. */
export async function openFirefox(): Promise<{ call: CallHarness; close: () => Promise<void> }> {
  const { openPage, close } = await launchFirefox();
  const page = await openPage(`${inject('pagesUrl')}/harness`);
  return { call: callerOf<CallHarness>(page, 'harness'), close };
}

/** A Firefox with invented devices that asks nothing. */
export async function launchFirefox(): Promise<{
  openPage: (url: string) => Promise<Page>;
  close: () => Promise<void>;
}> {
  const browser: Browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: process.env.OPENCALL_FIREFOX ?? '/usr/bin/firefox-esr',
    headless: true,
    timeout: ceilingMs(),
    protocolTimeout: ceilingMs(),
    extraPrefsFirefox: {
      'media.navigator.streams.fake': true,
      'media.navigator.permission.disabled': true,
      'media.autoplay.default': 0,
      'media.peerconnection.ice.obfuscate_host_addresses': false,
      // Nothing is fetched from outside: no codecs, no updates, no portal checks.
      'media.gmp-manager.updateEnabled': false,
      'media.gmp-gmpopenh264.enabled': false,
      'network.captive-portal-service.enabled': false,
      'network.connectivity-service.enabled': false,
    },
  });
  const openPage = async (url: string) => {
    const page = await browser.newPage();
    page.setDefaultTimeout(ceilingMs());
    await page.goto(url);
    return page;
  };
  return { openPage, close: () => browser.close() };
}
