import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newLinkKey } from '../../src/e2ee/keys';
import { isJoined } from './support/meeting';
import { TestServer } from './support/server';
import { tabsOfTests } from './support/tabs';
import { newRoom } from './support/talk';
import { until } from './support/wait';

let server: TestServer;
const tabs = tabsOfTests();

beforeAll(async () => {
  server = await TestServer.start({ name: 'conversation' });
});

afterAll(async () => {
  await server?.stop();
});

async function enter(name: string, room: string, fragment: string): Promise<Page> {
  const settings = 'autojoin=1&camera=0&microphone=0';
  const page = await tabs.open(
    `${server.httpUrl}/?room=${room}&name=${name}&${settings}${fragment}`,
  );
  await isJoined(page);
  return page;
}

const say = (page: Page, texts: string[]) =>
  page.evaluate(async (texts) => {
    for (const text of texts) await window.__meeting?.sendChat(text);
  }, texts);

const chat = (page: Page) =>
  page.evaluate(() =>
    (window.__meeting?.snapshot.chat ?? []).map(({ name, text }) => `${name}: ${text}`),
  );

const heard = (page: Page, count: number) =>
  until(
    `${count} messages`,
    () => chat(page),
    (messages) => messages.length >= count,
  );

const person = (page: Page, name: string) =>
  page.evaluate(
    (name) =>
      window.__meeting?.snapshot.participants.find(({ displayName }) => displayName === name),
    name,
  );

test.each([
  ['in the clear', () => ''],
  ['encrypted', () => `#k=${newLinkKey()}`],
])('%s: chat, hands and reactions reach all, and outlive the server', async (_, makeFragment) => {
  const [room, fragment] = [newRoom(), makeFragment()];
  const ann = await enter('Ann', room, fragment);
  const ben = await enter('Ben', room, fragment);
  await say(ann, ['one', 'two', 'drei 🎉']);
  await heard(ben, 3);
  await say(ben, ['four']);
  const all = ['Ann: one', 'Ann: two', 'Ann: drei 🎉', 'Ben: four'];
  expect(await heard(ann, 4)).toEqual(all);
  expect(await heard(ben, 4)).toEqual(all);
  await ann.evaluate(() => window.__meeting?.raiseHand(true));
  const cid = await enter('Cid', room, fragment);
  for (const page of [ben, cid]) {
    await until(
      'a raised hand',
      () => person(page, 'Ann'),
      (found) => found?.handRaisedAt !== undefined,
    );
  }
  await ann.evaluate(() => window.__meeting?.react('👍'));
  await until(
    'a reaction',
    () => person(ben, 'Ann'),
    (found) => found?.reaction?.emoji === '👍',
  );
  if (fragment) {
    for (const [page, name] of [[ann, 'Ben'] as const, [ben, 'Ann'] as const]) {
      expect((await person(page, name))?.encryption).toBe('encrypted');
    }
    // The ones who talk are part of it, as those who are seen are.
    const code = (page: Page) =>
      page.evaluate(() => window.__meeting?.snapshot.encryption.code ?? 'none');
    await until(
      'equal codes',
      () => Promise.all([ann, ben, cid].map(code)),
      (codes) => new Set(codes).size === 1 && codes[0] !== 'none',
    );
  }
  // What is said while nobody can hear it waits.
  const { ports } = server;
  await server.kill();
  for (const page of [ann, ben]) {
    await until(
      'the connection is away',
      () => page.evaluate(() => window.__meeting?.snapshot),
      (snapshot) => snapshot?.status === 'reconnecting' || snapshot?.isUnstable === true,
    );
  }
  const waiting = [say(ann, ['five']), say(ben, ['six'])];
  server = await TestServer.start({ name: 'conversation', ports });
  await Promise.all(waiting);
  for (const page of [ann, ben, cid]) await isJoined(page);
  for (const [page, from] of [[ann, 0] as const, [ben, 0] as const, [cid, 4] as const]) {
    const isHeard = (messages: string[]) =>
      ['Ann: five', 'Ben: six'].every((text) => messages.includes(text));
    const messages = await until('both messages', () => chat(page), isHeard);
    for (const name of ['Ann', 'Ben']) {
      const expected = [...all, 'Ann: five', 'Ben: six'].filter((text) => text.startsWith(name));
      const texts = messages.filter((text) => text.startsWith(name));
      // What was said in the seconds before Cid came it may have as well.
      expect(texts.slice(-expected.length)).toEqual(
        from === 0 ? expected : expected.slice(-texts.length),
      );
    }
  }
  await until(
    'the hand is still up',
    () => person(ben, 'Ann'),
    (found) => found?.handRaisedAt !== undefined,
  );
});

test('a stranger to the key reads nothing, and what it writes is dropped', async () => {
  const room = newRoom();
  const ann = await enter('Ann', room, `#k=${newLinkKey()}`);
  const mal = await enter('Mal', room, `#k=${newLinkKey()}`);
  const plain = await enter('Pat', room, '');
  for (const [page, text] of [[ann, 'secret'] as const, [mal, 'noise'] as const]) {
    await say(page, Array(6).fill(text));
  }
  await until(
    'what is dropped',
    () => mal.evaluate(() => window.__meeting?.droppedMessages()['not-opened'] ?? 0),
    (count) => count > 0,
  );
  await until(
    'a wrong key',
    async () => (await person(ann, 'Mal'))?.encryption,
    (state) => state === 'wrong-key',
  );
  expect(new Set(await chat(mal))).toEqual(new Set(['Mal: noise']));
  expect(new Set(await chat(ann))).toEqual(new Set(['Ann: secret']));
  expect(await chat(plain)).toEqual([]);
});

test('who only writes goes on writing after an ICE restart', async () => {
  const room = newRoom();
  const ann = await enter('Ann', room, '');
  const ben = await enter('Ben', room, '');
  await say(ann, ['one']);
  await say(ben, ['two']);
  await heard(ann, 2);
  await heard(ben, 2);
  for (const page of [ann, ben]) await page.evaluate(() => window.__meeting?.restartIce());
  await say(ann, ['three']);
  await say(ben, ['four']);
  for (const page of [ann, ben]) {
    const texts = await heard(page, 4);
    expect(texts.sort()).toEqual(['Ann: one', 'Ann: three', 'Ben: four', 'Ben: two']);
  }
});
