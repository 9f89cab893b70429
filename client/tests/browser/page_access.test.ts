import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openPage } from './support/chromium';
import { TestServer } from './support/server';
import { newRoom } from './support/talk';
import { holds } from './support/timing';
import { until } from './support/wait';

const axeScript = readFileSync(
  createRequire(import.meta.url).resolve('axe-core/axe.min.js'),
  'utf8',
);

let server: TestServer;
let room: string;
let ann: Page;
let ben: Page;

async function enter(name: string, query = '&autojoin=1'): Promise<Page> {
  const page = await openPage();
  await page.goto(`${server.httpUrl}/?room=${room}&name=${name}&height=180&fps=5${query}`);
  return page;
}

/** One server and two people for all of it. */
beforeAll(async () => {
  server = await TestServer.start({ name: 'page-access', flags: ['--dev-hosts'] });
  room = newRoom();
  // Who is first is the host.
  ben = await enter('Ben');
  await ben.waitForSelector('.oc-meeting[data-status="joined"]');
  ann = await enter('Ann', '');
});

afterAll(async () => {
  await Promise.all([ann?.close(), ben?.close()]);
  await server?.stop();
});

/** Barriers that keep people out, in what is shown now, in both themes. */
async function isOpenToAll(page: Page, state: string) {
  for (const colorScheme of ['dark', 'light'] as const) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(axeScript);
    const found = await page.evaluate(async () => {
      type Axe = { run(options: object): Promise<{ violations: Violation[] }> };
      type Violation = { id: string; impact: string; nodes: { html: string }[] };
      const { axe } = window as unknown as { axe: Axe };
      const { violations } = await axe.run({ resultTypes: ['violations'] });
      return violations
        .filter(({ impact }) => impact === 'serious' || impact === 'critical')
        .map(
          ({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(' | ')}`,
        );
    });
    expect(found, `${state}, ${colorScheme}`).toEqual([]);
  }
}

/** What has the focus, as a screen reader names it. */
const focused = (page: Page) =>
  page.evaluate(() => {
    const element = document.activeElement as HTMLElement | null;
    return (
      element?.getAttribute('aria-label') ??
      element?.getAttribute('name') ??
      element?.innerText ??
      ''
    );
  });

/** Goes on by Tab until this has the focus. */
async function tabTo(page: Page, name: string) {
  const passed: string[] = [];
  for (let step = 0; step < 40; step += 1) {
    await page.keyboard.press('Tab');
    passed.push(await focused(page));
    if (passed.at(-1) === name) return;
  }
  throw new Error(`Tab does not come to "${name}", but to ${passed.join(', ')}`);
}

const tile = (name: string) => `.oc-tile:has(.oc-name span:text-is("${name}"))`;

test('a whole meeting by keyboard alone, and no barrier in any state of it', async () => {
  await ann.waitForSelector('.page-mirror video:not([hidden])');
  await isOpenToAll(ann, 'the lobby');
  await tabTo(ann, 'Settings');
  await ann.keyboard.press('Enter');
  await ann.waitForSelector('.oc-popover:popover-open');
  await isOpenToAll(ann, 'settings of the lobby');
  await ann.keyboard.press('Escape');
  await until(
    'the focus goes back',
    () => focused(ann),
    (name) => name === 'Settings',
  );
  await tabTo(ann, 'encrypt');
  await tabTo(ann, 'Join meeting');
  await ann.keyboard.press('Enter');
  await ann.waitForSelector('.oc-meeting[data-status="joined"]');
  await ann.waitForSelector(`${tile('Ben')}[data-picture="true"]`);
  await ben.waitForSelector(tile('Ann'));
  await isOpenToAll(ann, 'the grid');

  // Mute, talk while the space bar is held, and no longer.
  await ann.locator('body').focus();
  await ann.keyboard.press('m');
  await ben.waitForSelector(`${tile('Ann')}[data-muted="true"]`);
  await ann.keyboard.down(' ');
  await ben.waitForSelector(`${tile('Ann')}[data-muted="false"]`);
  await ann.keyboard.up(' ');
  await ben.waitForSelector(`${tile('Ann')}[data-muted="true"]`);
  await ann.keyboard.press('v');
  await ben.waitForSelector(`${tile('Ann')}[data-picture="false"]`);

  // A hand, people, a pin by the menu of a tile.
  await ann.keyboard.press('h');
  await ben.waitForSelector(`${tile('Ann')}[data-hand="true"]`);
  await until(
    'the hand is announced',
    () => ben.textContent('[data-announcer]'),
    (text) => text?.includes('Ann raised a hand') === true,
  );
  await ann.keyboard.press('p');
  await ann.waitForSelector('.oc-sheet');
  await isOpenToAll(ann, 'people');
  await ann.keyboard.press('Escape');
  await ann.waitForSelector('.oc-sheet', { state: 'detached' });
  await tabTo(ann, 'Options for Ben');
  await ann.keyboard.press('Enter');
  await ann.waitForSelector('.oc-popover:popover-open');
  await isOpenToAll(ann, 'the menu of a tile');
  await ann.keyboard.press('Enter');
  await ann.waitForSelector(`${tile('Ben')}[data-main="true"]`);
  await isOpenToAll(ann, 'the view of one');

  // Chat both ways.
  await ann.keyboard.press('c');
  await tabTo(ann, 'Write to everyone');
  await ann.keyboard.type('hello from Ann, see https://a.example');
  await ann.keyboard.press('Enter');
  await ben.waitForSelector('[data-control="chat"][aria-label="Chat, 1 unread"]');
  await ben.keyboard.press('c');
  await ben.locator('.oc-message:has-text("hello from Ann")').waitFor();
  expect(await ben.getAttribute('.oc-message a', 'href')).toBe('https://a.example');
  await isOpenToAll(ann, 'chat');
  await ann.keyboard.press('Escape');
  await tabTo(ann, 'Close');
  await ann.keyboard.press('Enter');

  await ann.keyboard.press('?');
  await ann.waitForSelector('dialog[open]');
  await isOpenToAll(ann, 'the list of keys');
  await ann.keyboard.press('Escape');
  await ann.waitForSelector('dialog', { state: 'detached' });
  await tabTo(ann, 'Leave');
  await ann.keyboard.press('Enter');
  await ann.getByText('You left the meeting').waitFor();
  await isOpenToAll(ann, 'the farewell');
  await ben.waitForSelector(tile('Ann'), { state: 'detached' });
});

test('a file goes from one to the other, and the same page speaks German', async () => {
  const dora = await enter('Dora', '&autojoin=1&lang=de&camera=0&microphone=0');
  await dora.waitForSelector('.oc-meeting[data-status="joined"]');
  await ben.waitForSelector(tile('Dora'));
  await ben.setInputFiles('input[name="file"]', {
    name: 'plan.txt',
    mimeType: 'text/plain',
    buffer: Buffer.from('the plan'),
  });
  await dora.getByRole('button', { name: 'Chat, 1 ungelesen' }).click();
  await dora.getByRole('button', { name: 'plan.txt holen' }).click();
  const saving = dora.waitForEvent('download');
  await dora.getByRole('link', { name: 'plan.txt sichern' }).click();
  expect((await saving).suggestedFilename()).toBe('plan.txt');
  await isOpenToAll(dora, 'a file');
  // Everything that is fixed is of one language.
  expect(await dora.getAttribute('html', 'lang')).toBe('de');
  expect(await dora.getAttribute('[data-control="leave"]', 'aria-label')).toBe('Verlassen');
  await dora.close();
});

test('who hosts mutes, lets speak again, locks, lets in and removes; who does not has no button for it', async () => {
  const guest = await enter('Gwen');
  await guest.waitForSelector(tile('Ben'));
  await ben.waitForSelector(`${tile('Gwen')}[data-muted="false"]`);
  const open = (page: Page, name: string) =>
    page
      .locator(tile(name))
      .getByRole('button', { name: `Options for ${name}` })
      .click();
  await open(guest, 'Ben');
  await guest.locator('.oc-popover:popover-open').waitFor();
  expect(await guest.locator('[data-host]').count()).toBe(0);
  await guest.keyboard.press('Escape');
  await guest.keyboard.press('p');
  await guest.locator('.oc-sheet').waitFor();
  expect(await guest.locator('.oc-hosting').count()).toBe(0);

  await open(ben, 'Gwen');
  await ben.click('[data-host="mute"]');
  await guest.waitForSelector('[data-muted-by-host="microphone"]');
  await ben.waitForSelector(`${tile('Gwen')}[data-muted="true"]`);
  // Who tries all the same is told why nothing happens, until they may.
  await guest.keyboard.press('Escape');
  await guest.click('[data-control="microphone"]');
  await guest.waitForSelector('[data-error="muted-by-host"]');
  expect(await guest.getAttribute('[data-control="microphone"]', 'data-device')).toBe('muted');
  await open(ben, 'Gwen');
  await ben.click('[data-host="allow-microphone"]');
  await guest.waitForSelector('[data-allowed-by-host="microphone"]');
  expect(await guest.locator('[data-error]').count()).toBe(0);
  // It is theirs to open.
  expect(await guest.getAttribute('[data-control="microphone"]', 'data-device')).toBe('muted');
  await guest.click('[data-control="microphone"]');
  await ben.waitForSelector(`${tile('Gwen')}[data-muted="false"]`);
  if ((await ben.locator('.oc-hosting').count()) === 0) await ben.keyboard.press('p');
  await ben.getByRole('button', { name: 'Lock the meeting' }).click();
  await guest.waitForSelector('.oc-chip--locked');
  const late = await enter('Ida', '&autojoin=1&camera=0&microphone=0');
  await late.waitForSelector('[data-state="waiting"]');
  await isOpenToAll(late, 'waiting');
  await isOpenToAll(ben, 'someone waits');
  await ben.locator('.oc-hosting').getByRole('button', { name: 'Admit Ida' }).click();
  await late.waitForSelector('.oc-meeting[data-status="joined"]');
  await ben.getByRole('button', { name: 'Unlock the meeting' }).click();

  await open(ben, 'Gwen');
  await ben.click('[data-host="remove"]');
  await ben.click('[data-host="remove"]');
  await guest.getByText('You were removed from the meeting').waitFor();
  await isOpenToAll(guest, 'removed');
  await Promise.all([guest.close(), late.close()]);
});

test('without permission the page says so, and lets one in', async () => {
  const page = await openPage();
  await page.addInitScript(() => {
    navigator.mediaDevices.getUserMedia = () =>
      Promise.reject(new DOMException('no', 'NotAllowedError'));
  });
  await page.goto(`${server.httpUrl}/?room=${room}&name=Eve&lang=de`);
  await page.getByText('Kamera und Mikrofon sind gesperrt.').waitFor();
  await isOpenToAll(page, 'no permission');
  await page.goto(`${server.httpUrl}/?room=${room}&name=Eve&lang=de&autojoin=1`);
  await page.getByRole('alert').waitFor();
  await isOpenToAll(page, 'an error');
  // The check would find something if there were something.
  await page.evaluate(() => document.querySelector('.oc-meeting')?.append(new Image()));
  await expect(isOpenToAll(page, 'a picture without words')).rejects.toThrow(/image-alt/);
  await page.close();
});

/** Until the lobby is painted, on loopback. */
const FIRST_PAINT_MS = 1000;

test('the lobby is there at once, and nothing moves afterwards', async () => {
  const page = await openPage();
  await page.addInitScript(() => {
    const seen = { shift: 0 };
    (window as unknown as { seen: typeof seen }).seen = seen;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) {
        seen.shift += (entry as PerformanceEntry & { value: number }).value;
      }
    }).observe({ type: 'layout-shift', buffered: true });
  });
  await page.goto(`${server.httpUrl}/?room=${room}&name=Ida`);
  await page.waitForSelector('.page-mirror video:not([hidden])');
  await page.getByText('This server is open').waitFor();
  const { paint, shift } = await page.evaluate(() => ({
    paint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0,
    shift: (window as unknown as { seen: { shift: number } }).seen.shift,
  }));
  expect(paint).toBeGreaterThan(0);
  holds('first paint of the lobby, ms', paint, FIRST_PAINT_MS);
  expect(shift).toBeLessThan(0.01);
  await page.close();
});

test('a floating window shows who speaks, and has three buttons', async () => {
  const page = await enter('Ida', '&autojoin=1&camera=0');
  await page.waitForSelector(tile('Ben'));
  // A window of this kind cannot be driven from here: who asks for one is given a frame.
  await page.evaluate(() => {
    const frame = document.body.appendChild(document.createElement('iframe'));
    frame.style.cssText = 'position:fixed;inset:0;width:360px;height:240px;z-index:9';
    const given = { requestWindow: async () => frame.contentWindow };
    Object.defineProperty(window, 'documentPictureInPicture', { value: given });
  });
  await page.keyboard.press('h');
  await page.click('[data-control="more"]');
  await page.getByRole('button', { name: 'Floating window' }).click();
  const floating = page.frameLocator('iframe');
  await floating.locator('.oc-name span', { hasText: 'Ben' }).waitFor();
  expect(await floating.locator('button').count()).toBe(3);
  await floating.getByRole('button', { name: 'Mute' }).click();
  await page.waitForSelector('[data-control="microphone"][data-device="muted"]');
  await floating.getByRole('button', { name: 'Leave' }).click();
  await page.getByText('You left the meeting').waitFor();
  await page.close();
});
