import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, test } from 'vitest';
import { openPage } from '../browser/support/chromium';
import { drawnCamera, drawnScreen } from '../browser/support/portraits';
import { TestServer } from '../browser/support/server';

const out = join(import.meta.dirname, '../browser/out/pictures');

const SIZES = { wide: { width: 1280, height: 720 }, phone: { width: 390, height: 844 } };
const THEMES = ['dark', 'light'] as const;

let server: TestServer;

beforeAll(async () => {
  mkdirSync(out, { recursive: true });
  server = await TestServer.start({ name: 'pictures' });
});

afterAll(() => server?.stop());

async function open(name: string, query: string, options = {}): Promise<Page> {
  const page = await openPage(options);
  await page.addInitScript(drawnCamera, { name });
  await page.addInitScript(drawnScreen);
  await page.goto(`${server.httpUrl}/?name=${name}&${query}`);
  return page;
}

/** In both sizes and both themes. */
async function shoot(page: Page, name: string) {
  for (const [size, viewport] of Object.entries(SIZES)) {
    await page.setViewportSize(viewport);
    for (const theme of THEMES) {
      await page.emulateMedia({ colorScheme: theme });
      await page.waitForTimeout(300);
      await page.screenshot({ path: join(out, `${name}-${size}-${theme}.png`) });
    }
  }
  await page.setViewportSize(SIZES.wide);
}

const speak = (page: Page, isOn: boolean) =>
  page.evaluate((on) => (window as unknown as { speak: (on: boolean) => void }).speak(on), isOn);

test('the lobby', async () => {
  const page = await open('Ann', 'room=team-standup');
  await page.waitForSelector('.page-mirror video:not([hidden])');
  await page.waitForTimeout(300);
  await shoot(page, 'lobby');
  await page.click('button[aria-label="Camera"]');
  await page.check('input[name="encrypt"]');
  await shoot(page, 'lobby-off');
  await page.click('.page-settings');
  await shoot(page, 'lobby-settings');
  await page.close();
});

test('a meeting', async () => {
  const room = 'room=team-standup&autojoin=1';
  const ann = await open('Ann', room);
  await ann.waitForSelector('[data-status="joined"]');
  await shoot(ann, 'alone');
  const others: Page[] = [];
  for (const name of ['Ben', 'Cleo', 'Dan', 'Eve']) {
    others.push(await open(name, `${room}${name === 'Dan' ? '&camera=0' : ''}`));
  }
  await ann.waitForFunction(
    () => document.querySelectorAll('[data-local="false"] video').length === 3,
  );
  await speak(others[1] as Page, true);
  await ann.waitForSelector('[data-local="false"][data-speaking="true"]');
  await others[0]?.click('[data-control="microphone"]');
  await shoot(ann, 'grid');
  await ann.keyboard.press('p');
  await shoot(ann, 'people');
  await ann.keyboard.press('p');
  await ann.keyboard.press('g');
  await shoot(ann, 'speaker');
  await ann.keyboard.press('g');
  await others[0]?.click('[data-control="screen"]');
  await ann.keyboard.press('?');
  await shoot(ann, 'shortcuts');
  await ann.keyboard.press('Escape');
  await ann.waitForSelector('[data-source="screen"] video');
  await ann.waitForTimeout(1000);
  await ann.click('[data-control="more"]');
  await shoot(ann, 'screen');
  await ann.keyboard.press('Escape');
  await ann.hover('.oc-tile[data-source="screen"]');
  await ann.click('.oc-tile[data-peer-id] .oc-tile-menu >> nth=2');
  await shoot(ann, 'tile-menu');
  for (const page of [...others, ann]) await page.close();
});
