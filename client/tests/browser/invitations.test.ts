import { join } from 'node:path';
import { AccessToken } from 'livekit-server-sdk';
import { expect, test } from 'vitest';
import { openPage } from './support/chromium';
import { TestServer } from './support/server';
import { until } from './support/wait';

const out = join(import.meta.dirname, 'out');
const SECRET = '0123456789abcdefghijklmnopqrstuv';

function invite(identity: string, name: string, ttl: number): Promise<string> {
  const token = new AccessToken('key', SECRET, { identity, name, ttl });
  token.addGrant({ roomJoin: true, room: 'stand-up' });
  return token.toJwt();
}

test('an invitation opens the door of its room, for whom it is for, and survives a reload', async () => {
  const server = await TestServer.start({
    name: 'invitations',
    flags: [`--auth-key=key=${SECRET}`],
  });
  try {
    const token = await invite('ann', 'Ann of the token', 600);
    const ann = await openPage();
    await ann.goto(`${server.httpUrl}/?room=board#token=${token}`);
    expect(await ann.inputValue('input[name="room"]')).toBe('stand-up');
    expect(await ann.evaluate(() => location.href)).not.toContain(token);
    expect(await ann.inputValue('input[name="name"]')).toBe('Ann of the token');
    expect(await ann.getAttribute('input[name="room"]', 'readonly')).not.toBeNull();
    await ann.click('button[type="submit"]');
    await ann.waitForSelector('[data-status="joined"]');
    expect(await ann.evaluate(() => location.href)).not.toContain(token);
    expect(await ann.evaluate(() => window.__meeting?.participantId)).toBe('ann');

    await ann.reload();
    await ann.click('button[type="submit"]');
    await ann.waitForSelector('[data-status="joined"]');

    const ben = await openPage();
    await ben.goto(`${server.httpUrl}/?token=${await invite('ben', 'Ben', 600)}&autojoin=1`);
    await until(
      'Ann is shown under the name of her token',
      () => ben.locator('.oc-tile[data-local="false"] .oc-name span').allTextContents(),
      (names) => names.join() === 'Ann of the token',
    );
    await Promise.all([ann.close(), ben.close()]);
  } finally {
    await server.stop();
  }
});

test('who has no invitation, or an old one, is told', async () => {
  const server = await TestServer.start({
    name: 'invitations',
    flags: [`--auth-key=key=${SECRET}`],
  });
  try {
    const page = await openPage();
    await page.goto(`${server.httpUrl}/`);
    await page.getByText('Open the link that you were given.').waitFor();
    await page.goto(`${server.httpUrl}/?room=stand-up&name=Ann&autojoin=1`);
    await page.waitForSelector('[role="alert"][data-error="token-refused"]');
    const old = await openPage();
    await old.goto(`${server.httpUrl}/?token=${await invite('ann', 'Ann', -100)}&autojoin=1`);
    await old.waitForSelector('[role="alert"][data-error="token-refused"]');
    expect(await old.textContent('[role="alert"]')).toMatch(/the token expired \d+ s ago/);
    await old.screenshot({ path: join(out, 'invitation-expired.png') });
    await Promise.all([page.close(), old.close()]);
  } finally {
    await server.stop();
  }
});

test('a server that lets everyone in says so', async () => {
  const server = await TestServer.start({ name: 'invitations-open' });
  try {
    const page = await openPage();
    await page.goto(`${server.httpUrl}/`);
    await page.getByText('This server is open').waitFor();
    await page.screenshot({ path: join(out, 'lobby-open.png') });
    await page.close();
  } finally {
    await server.stop();
  }
});
