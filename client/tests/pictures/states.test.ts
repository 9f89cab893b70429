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

/** Until what moves stands still: a transition, a picture of another size. */
const SETTLE_MS = 400;

let server: TestServer;

beforeAll(async () => {
  mkdirSync(out, { recursive: true });
  server = await TestServer.start({ name: 'pictures' });
});

afterAll(() => server?.stop());

async function open(name: string, query: string, hash = ''): Promise<Page> {
  const page = await openPage();
  await page.addInitScript(drawnCamera, { name });
  await page.addInitScript(drawnScreen);
  await page.goto(`${server.httpUrl}/?name=${name}&${query}${hash}`);
  return page;
}

/** In both sizes and both themes, and in colours that the system forces. */
async function shoot(page: Page, name: string) {
  for (const [size, viewport] of Object.entries(SIZES)) {
    await page.setViewportSize(viewport);
    for (const theme of THEMES) {
      await page.emulateMedia({ colorScheme: theme });
      await page.waitForTimeout(SETTLE_MS);
      await page.screenshot({ path: join(out, `${name}-${size}-${theme}.png`) });
    }
  }
  await page.setViewportSize(SIZES.wide);
  await page.emulateMedia({ forcedColors: 'active' });
  await page.waitForTimeout(SETTLE_MS);
  await page.screenshot({ path: join(out, `${name}-wide-forced.png`) });
  await page.emulateMedia({ forcedColors: 'none' });
}

const speak = (page: Page, isOn: boolean) =>
  page.evaluate((on) => (window as unknown as { speak: (on: boolean) => void }).speak(on), isOn);

/** Until all pictures of others are there. */
const sees = (page: Page, count: number) =>
  page.waitForFunction((count) => {
    const videos = [...document.querySelectorAll<HTMLVideoElement>('[data-local="false"] video')];
    return videos.length === count && videos.every(({ videoWidth }) => videoWidth > 0);
  }, count);

test('the lobby', async () => {
  const page = await open('Ann', 'room=team-standup');
  await page.waitForSelector('.page-mirror video:not([hidden])');
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
  const [ben, cleo, dan, eve] = others as [Page, Page, Page, Page];
  await sees(ann, 3);
  await speak(cleo, true);
  await ann.waitForSelector('[data-local="false"][data-speaking="true"]');
  await ben.click('[data-control="microphone"]');
  await eve.keyboard.press('h');
  await shoot(ann, 'grid');
  await ann.keyboard.press('p');
  await shoot(ann, 'people');
  await dan.evaluate(() =>
    window.__meeting?.sendChat('Good morning! Is the plot from yesterday up?'),
  );
  await ben.evaluate(() => window.__meeting?.sendChat('Yes: https://bench.example/plots/41'));
  await ann.evaluate(() => window.__meeting?.sendChat('Thank you. I share it in a minute.'));
  await cleo.evaluate(() =>
    window.__meeting?.sendFile(new Blob(['x'.repeat(240_000)]), 'plot.csv'),
  );
  await ann.keyboard.press('c');
  await ann.waitForSelector('.oc-file');
  await shoot(ann, 'chat');
  await ann.keyboard.press('c');
  await ann.keyboard.press('g');
  await shoot(ann, 'speaker');
  await ann.keyboard.press('?');
  await shoot(ann, 'shortcuts');
  await ann.keyboard.press('Escape');
  await ann.keyboard.press('g');
  await ben.click('[data-control="screen"]');
  await ann.waitForSelector('[data-source="screen"] video');
  await ann.waitForFunction(
    () =>
      (document.querySelector<HTMLVideoElement>('[data-source="screen"] video')?.videoWidth ?? 0) >
      0,
  );
  await shoot(ann, 'screen');
  await ann.click('[data-control="more"]');
  await shoot(ann, 'more');
  await ann.keyboard.press('Escape');
  await ann.click('.oc-tile[data-peer-id][data-main="false"] .oc-tile-menu >> nth=1');
  await shoot(ann, 'tile-menu');
  for (const page of [...others, ann]) await page.close();
});

test('encrypted, in German, and at the end', async () => {
  const room = 'room=werkstatt&autojoin=1&lang=de';
  const key = '#k=AAECAwQFBgcICQoLDA0ODw';
  const ann = await open('Ann', room, key);
  const ben = await open('Ben', room, key);
  const hugo = await open('Hugo', room, '#k=BBECAwQFBgcICQoLDA0ODw');
  await ann.waitForSelector('[data-encryption="wrong-key"]');
  await shoot(ann, 'wrong-key');
  await ann.click('.oc-encryption button');
  await ann.waitForSelector('.oc-code output');
  await shoot(ann, 'code');
  await Promise.all([ben.close(), hugo.close()]);
  await server.kill();
  await ann.waitForSelector('.oc-meeting[data-status="reconnecting"]');
  await shoot(ann, 'reconnecting');
  const gone = await openPage();
  server = await TestServer.start({
    name: 'pictures',
    flags: ['--auth-key=k=0123456789abcdef0123456789abcdef'],
  });
  await gone.goto(`${server.httpUrl}/?name=Eve&${room}`);
  await gone.waitForSelector('[data-state="failed"]');
  await shoot(gone, 'refused');
  await gone.close();
  await ann.close();
});
