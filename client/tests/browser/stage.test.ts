import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { actor, type Tile, tilesOf } from './support/actor';
import { type CallHarness, openHarness, openHook, openPage } from './support/chromium';
import { programPath, TestServer } from './support/server';
import { newRoom } from './support/talk';
import { holds } from './support/timing';
import { until } from './support/wait';

const out = join(import.meta.dirname, 'out');

/** Senders from which on a room has a stage. It ends below two thirds of them. */
const FROM = 6;
const FLAGS = [`--stage-from=${FROM}`, '--stage-voices=2', '--stage-videos=2'];

/** Until a change of speaker, a page of the gallery or a screen is seen. */
const SEEN_MS = 1000;

/** The three who are known by their colours. */
const COLOURS: Record<string, string> = { Ann: 'red', Ben: 'green', Cleo: 'blue' };

let server: TestServer;

beforeAll(async () => {
  server = await TestServer.start({ name: 'stage', flags: FLAGS });
});

afterAll(() => server?.stop());

/** Who had the floor last, as each page was told: the first of those who speak. */
const floors = new WeakMap<Page, string>();

async function enter(name: string, room: string): Promise<Page> {
  const page = await openPage();
  page.on('websocket', (socket) =>
    socket.on('framereceived', ({ payload }) => {
      const speakers = /"mediasoup:activeSpeakers".*?"data":\["([^"]+)"/.exec(String(payload));
      if (speakers?.[1]) floors.set(page, speakers[1]);
    }),
  );
  await page.addInitScript(actor, COLOURS[name] ?? 'grey');
  await page.goto(`${server.httpUrl}/?room=${room}&name=${name}&autojoin=1&codec=VP8`);
  await page.waitForSelector('.oc-meeting[data-status="joined"]');
  return page;
}

/** Others who send small pictures and are silent. */
async function crowd(call: CallHarness, room: string, ids: string[]): Promise<void> {
  for (const [index, id] of ids.entries()) {
    await call('open', id, index === 1 ? 'new protoo' : 'opencall', server.wsUrl, room);
    await call('sendVideo', id, { width: 160, height: 90, fps: 5 });
  }
}

/** Someone begins to speak, and is told of as the first of those who do. */
async function takeFloor(speaker: Page, listener: Page): Promise<void> {
  const id = await ownId(speaker);
  await speaker.evaluate(() => window.speak(true));
  await until(
    'the floor is taken',
    async () => floors.get(listener),
    (holder) => holder === id,
  );
}

/** Who is heard alone is told of as the first before they have spoken for long enough to have the floor. */
async function fallSilent(speaker: Page): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 1500));
  await speaker.evaluate(() => window.speak(false));
}

const onStage = (page: Page) => page.evaluate(() => window.__meeting?.snapshot.stage.length ?? 0);

/** Pictures that are being received. */
const receives = (page: Page) =>
  page.evaluate(async () => {
    type Inbound = { type: string; id: string; kind?: string; bytesReceived?: number };
    const videos = async () => {
      const { recv } = (await window.__meeting?.stats()) ?? { recv: [] };
      return (recv as Inbound[]).filter(
        ({ type, kind }) => type === 'inbound-rtp' && kind === 'video',
      );
    };
    const before = new Map((await videos()).map(({ id, bytesReceived }) => [id, bytesReceived]));
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const now = await videos();
    return now.filter(({ id, bytesReceived }) => bytesReceived !== before.get(id)).length;
  });

/** Whether a tile shows whom it names, as far as one can tell. */
const isTrue = ({ name, colour }: Tile) => {
  const person = name.split('’')[0] ?? '';
  return COLOURS[person] === undefined || COLOURS[person] === colour;
};

/** Waits until these have moving pictures, each its own and once. */
async function sees(page: Page, names: string[]): Promise<Tile[]> {
  const before = new Map((await tilesOf(page)).map(({ name, frames }) => [name, frames]));
  return until(
    `${names} in motion`,
    () => tilesOf(page),
    (tiles) =>
      new Set(tiles.map(({ name, source }) => source + name)).size === tiles.length &&
      names.every((name) => {
        const tile = tiles.find((one) => one.name === name && one.hasPicture);
        const last = before.get(name) ?? 0;
        // A new element counts anew.
        return tile && isTrue(tile) && (tile.frames > last || tile.frames < last);
      }),
  );
}

/** How long that took, at least to be noticed. */
async function timed(what: string, wait: () => Promise<unknown>): Promise<void> {
  const began = performance.now();
  await wait();
  holds(`ms until ${what}`, performance.now() - began, SEEN_MS);
}

test('a page shows the stage of a large room, pins and pages besides, and a small room again', async () => {
  const room = newRoom();
  const call = await openHarness();
  const [ann, ben, cleo] = await Promise.all([
    enter('Ann', room),
    enter('Ben', room),
    enter('Cleo', room),
  ]);
  await Promise.all([sees(ann, ['Ben', 'Cleo']), sees(cleo, ['Ann', 'Ben'])]);
  const others = ['dora', 'emil', 'fay', 'gil'];
  // The names that they show.
  const shown = ['dora', 'Harness', 'fay', 'gil'];
  await crowd(call, room, others);
  await until(
    'a stage',
    () => onStage(ann),
    (count) => count === 2,
  );
  // No slot is shown as a person; everyone is listed.
  const people = () =>
    ann.evaluate(() => window.__meeting?.snapshot.participants.map(({ id }) => id) ?? []);
  await until('everyone', people, (ids) => ids.length === 7);
  expect(await people()).toEqual(expect.arrayContaining(others));

  // The floor.
  await takeFloor(ben, ann);
  await timed('who speaks is on everyone’s stage', () =>
    Promise.all([sees(ann, ['Ben']), sees(cleo, ['Ben'])]),
  );
  await fallSilent(ben);
  await takeFloor(cleo, ann);
  await timed('the next speaker is there', () => sees(ann, ['Cleo', 'Ben']));
  await fallSilent(cleo);
  expect((await tilesOf(ann)).every(isTrue)).toBe(true);
  await ann.screenshot({ path: join(out, 'stage-grid.png') });

  // A pin holds, whoever comes on stage.
  const track = () =>
    ann.evaluate(
      () =>
        window.__meeting?.snapshot.participants.find(({ displayName }) => displayName === 'Cleo')
          ?.media.camera?.producerId,
    );
  const slot = await track();
  await pin(ann, 'Cleo');
  await sees(ann, ['Cleo']);
  await until('a stream of Cleo’s own', track, (own) => own !== slot);
  await sees(ann, ['Cleo']);
  const watched = watchMain(ann, 'Cleo');
  await takeFloor(ben, cleo);
  await sees(cleo, ['Ben']);
  await fallSilent(ben);
  await takeFloor(ann, cleo);
  await sees(cleo, ['Ann', 'Ben']);
  await fallSilent(ann);
  const cleos = { participantId: await ownId(cleo), source: 'camera' };
  expect(await ann.evaluate(() => window.__meeting?.snapshot.stage)).not.toContainEqual(cleos);
  expect(await watched()).toEqual([]);
  await sees(ann, ['Cleo']);
  await pin(ann, 'Cleo');

  // A page of the gallery.
  const pages = () => ann.getAttribute('.oc-stage', 'data-pages').then(Number);
  await until('pages', pages, (count) => count === 2);
  await ann.keyboard.press('ArrowRight');
  await timed('the next page is seen', () => sees(ann, ['Cleo', ...shown]));
  await ann.screenshot({ path: join(out, 'stage-page.png') });
  await ann.keyboard.press('ArrowLeft');
  // One slot is her own.
  await until(
    'the stage alone',
    () => receives(ann),
    (count) => count === 1,
  );
  await sees(ann, ['Ben']);

  // Clients that know of no stage have its slots for people.
  const isSlot = ({ peerId, framesDecoded }: { peerId: string; framesDecoded: number }) =>
    peerId.startsWith('stage:') && framesDecoded > 0;
  for (const id of ['dora', 'emil']) {
    await until(
      `pictures of the stage for ${id}`,
      () => call('received', id),
      (list) => list.filter(isSlot).length === 2,
    );
  }
  const old = await openHook('3.7');
  await old('join', 'old', `${server.wsUrl}/ws`, room);
  const seen = await until(
    'pictures of the stage for OpenCall’s own client',
    () => old('state', 'old'),
    ({ received }) => received.filter(({ framesDecoded }) => framesDecoded > 0).length === 2,
  );
  expect(seen.received.every(({ participantId }) => participantId.startsWith('stage:'))).toBe(true);
  expect(seen.errors).toEqual([]);
  await old('leave', 'old');

  // A screen.
  await ben.click('[data-control="screen"]');
  await timed('a screen is on everyone’s stage', () =>
    Promise.all([sees(ann, ['Ben’s screen']), sees(cleo, ['Ben’s screen'])]),
  );
  await ann.screenshot({ path: join(out, 'stage-screen.png') });
  await ben.click('[data-control="screen"]');
  await ann.waitForSelector('.oc-tile[data-source="screen"]', { state: 'detached' });

  // Small, and large again.
  for (const round of [1, 2]) {
    for (const id of others) await call('close', id);
    await until(
      'no stage',
      () => onStage(ann),
      (count) => count === 0,
    );
    const tiles = await sees(ann, ['Ben', 'Cleo']);
    expect(tiles.map(({ name }) => name).sort()).toEqual(['Ben', 'Cleo']);
    await Promise.all([sees(ben, ['Ann', 'Cleo']), sees(cleo, ['Ann', 'Ben'])]);
    if (round === 2) break;
    await crowd(call, room, others);
    await until(
      'a stage again',
      () => onStage(ann),
      (count) => count === 2,
    );
    await takeFloor(cleo, ann);
    await sees(ann, ['Cleo']);
    await fallSilent(cleo);
  }
  await Promise.all([ann, ben, cleo].map((page) => page.close()));
});

/** Voices from the load generator, who talk by turns. */
function voices(room: string, count: number): ChildProcess {
  const flags = [
    ...['run', 'audio', '--room', room, '--target', `${server.wsUrl}/ws`],
    ...['--participants', String(count), '--duration', '1h', '--pin', 'false'],
  ];
  const bench = programPath('opencall-bench', 'OPENCALL_BENCH');
  return spawn(bench, flags, { stdio: ['ignore', 'ignore', 'inherit'] });
}

test('a page in a crowd of voices names who talks, lists everyone, and is alone with the other again', async () => {
  const room = newRoom();
  const [ann, ben] = await Promise.all([enter('Ann', room), enter('Ben', room)]);
  await sees(ann, ['Ben']);
  const bench = voices(room, 20);
  try {
    const present = () => ann.evaluate(() => window.__meeting?.snapshot.participants.length ?? 0);
    await until('everyone', present, (count) => count === 22);
    await until(
      'a stage',
      () => onStage(ann),
      (count) => count >= 3,
    );
    await sees(ann, ['Ben']);
    // Who talks is on a slot, and the tile says so.
    const talking = () =>
      ann.evaluate(() =>
        [...document.querySelectorAll<HTMLElement>('.oc-tile[data-speaking="true"]')].map(
          ({ dataset }) => dataset.peerId ?? '',
        ),
      );
    const heard = new Set<string>();
    await until(
      'three who talk by turns',
      async () => {
        for (const id of await talking()) heard.add(id);
        return heard.size;
      },
      (count) => count >= 3,
    );
    expect([...heard].filter((id) => !/^p\d+$/.test(id))).toEqual([]);
    const named = await ann.evaluate(() => {
      const { stage = [], participants = [] } = window.__meeting?.snapshot ?? {};
      return stage.map((on) => participants.find(({ id }) => id === on.participantId)?.displayName);
    });
    expect(named.every((name) => /^(p\d+|Ann|Ben)$/.test(name ?? ''))).toBe(true);
    await ann.screenshot({ path: join(out, 'stage-voices.png') });
    await ann.keyboard.press('ArrowRight');
    await until(
      'a page of others',
      () => tilesOf(ann),
      (tiles) => tiles.length > 9 && tiles.every(({ name }) => /^p\d+$/.test(name)),
    );
    await ann.keyboard.press('ArrowLeft');
  } finally {
    bench.kill();
  }
  await until(
    'no stage',
    () => onStage(ann),
    (count) => count === 0,
  );
  await until(
    'Ben alone',
    () => tilesOf(ann),
    (tiles) => tiles.length === 1,
  );
  await Promise.all([sees(ann, ['Ben']), sees(ben, ['Ann'])]);
  await Promise.all([ann.close(), ben.close()]);
});

const ownId = (page: Page) => page.evaluate(() => window.__meeting?.participantId ?? '');

/** Pins somebody, or lets them go. */
async function pin(page: Page, name: string): Promise<void> {
  const tile = page.locator('.oc-tile[data-source="camera"]', {
    has: page.locator('.oc-name span', { hasText: name }),
  });
  await tile.locator('button.oc-tile-menu').click();
  await page.locator('.oc-popover:popover-open button.oc-item').first().click();
}

/** Watches the large tile from now on; what was wrong with it, when it is asked. */
function watchMain(page: Page, name: string): () => Promise<string[]> {
  const wrong: string[] = [];
  let isOver = false;
  const watching = (async () => {
    while (!isOver) {
      const main = (await tilesOf(page)).find(({ isMain }) => isMain);
      if (main?.name !== name || !main.hasPicture || !isTrue(main))
        wrong.push(JSON.stringify(main));
    }
  })();
  return async () => {
    isOver = true;
    await watching;
    return wrong;
  };
}
