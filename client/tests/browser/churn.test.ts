import type { Page } from 'playwright-core';
import { afterAll, beforeAll, test } from 'vitest';
import { openPage } from './support/chromium';
import { TestServer } from './support/server';
import { newRoom } from './support/talk';
import { isProof } from './support/timing';
import { until } from './support/wait';

/** Each a meeting of its own; failures name theirs. */
const SEEDS = process.env.CHURN_SEEDS?.split(',').map(Number) ?? (isProof ? [1, 2, 3, 4, 5] : [1]);

/** What people do in each, one thing after the other. */
const STEPS = isProof ? 40 : 8;

/** More browsers than this only wait for each other. */
const PEOPLE_MAX = 4;

const NAMES = ['Ann', 'Ben', 'Cleo', 'Dan', 'Eva', 'Finn', 'Gil', 'Hana', 'Ida', 'Jan'];

let server: TestServer;

beforeAll(async () => {
  server = await TestServer.start({
    name: 'churn',
    workers: 2,
    flags: ['--placement=spread', '--debug-faults'],
  });
});

afterAll(() => server?.stop());

/** Someone in the meeting, and what of them the others are to see and hear. */
interface Person {
  name: string;
  page: Page;
  camera: boolean;
  microphone: boolean;
  screen: boolean;
}

/** One of the others as a page shows them: how many pictures moved, how much was heard. */
interface Shown {
  name: string;
  hasPicture: boolean;
  frames: number;
  isMuted: boolean;
  energy: number;
}

/** Numbers from 0 up to 1, the same for the same seed (xorshift32). */
function randomOf(seed: number): () => number {
  let state = (seed * 2_654_435_761) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

function shown(page: Page): Promise<Shown[]> {
  return page.evaluate(async () => {
    const meeting = window.__meeting;
    const { recv = [] } = ((await meeting?.stats()) ?? {}) as { recv?: object[] };
    const heard = (id: string | null) => {
      const person = meeting?.snapshot.participants.find((one) => one.id === id);
      const track = person?.media.microphone?.track?.id;
      const streams = recv as { trackIdentifier?: string; totalAudioEnergy?: number }[];
      return streams.find((one) => track && one.trackIdentifier === track)?.totalAudioEnergy ?? 0;
    };
    return [...document.querySelectorAll('.oc-tile[data-local="false"]')].map((tile) => ({
      name: tile.querySelector('.oc-name span')?.textContent ?? '',
      hasPicture: tile.getAttribute('data-picture') === 'true',
      frames: tile.querySelector('video')?.getVideoPlaybackQuality().totalVideoFrames ?? 0,
      isMuted: tile.getAttribute('data-muted') === 'true',
      energy:
        tile.getAttribute('data-source') === 'screen'
          ? 0
          : heard(tile.getAttribute('data-peer-id')),
    }));
  });
}

/** What a page shows of the others, without what moves. */
function outline(list: Pick<Shown, 'name' | 'hasPicture' | 'isMuted'>[]): string {
  const lines = list.map(({ name, hasPicture, isMuted }) => {
    const isScreen = name.includes('screen');
    return `${name}${hasPicture ? ' seen' : ''}${isMuted || isScreen ? '' : ' heard'}`;
  });
  return lines.sort().join(', ');
}

function expected(others: Person[]): string {
  return outline(
    others.flatMap(({ name, camera, microphone, screen }) => [
      { name, hasPicture: camera, isMuted: !microphone },
      ...(screen ? [{ name: `${name}’s screen`, hasPicture: true, isMuted: true }] : []),
    ]),
  );
}

/** Waits until everyone sees exactly the others, all that is on moves, and all that is not muted is heard. */
async function everyoneMeets(people: Person[], what: string): Promise<void> {
  await Promise.all(
    people.map(async ({ name, page }) => {
      const others = expected(people.filter((one) => one.page !== page));
      let before: Map<string, Shown> | undefined;
      await until(
        `${what}; ${name} meets ${others || 'nobody'}`,
        () => shown(page),
        (list) => {
          if (outline(list) !== others) {
            before = undefined;
            return false;
          }
          before ??= new Map(list.map((one) => [one.name, one]));
          return list.every((one) => {
            const was = before?.get(one.name);
            const moves = !one.hasPicture || one.frames > (was?.frames ?? 0) + 2;
            const sounds =
              one.isMuted || one.name.includes('screen') || one.energy > (was?.energy ?? 0);
            return moves && sounds;
          });
        },
      );
    }),
  );
}

/** A meeting in which people do what a seed says. */
class Meeting {
  readonly people: Person[] = [];
  readonly #room = newRoom();
  readonly #random: () => number;
  #come = 0;

  constructor(seed: number) {
    this.#random = randomOf(seed);
  }

  /** Two are there before anything happens. */
  async begin(): Promise<void> {
    await this.#enter();
    await this.#enter();
  }

  /** Somebody does something; says what. */
  async step(): Promise<string> {
    const { people } = this;
    if (people.length < 2) return this.#enter();
    const deeds = [
      () => this.#leave(),
      () => this.#closeTab(),
      () => this.#reload(),
      () => this.#toggle('camera'),
      () => this.#toggle('microphone'),
      () => this.#toggle('screen'),
      () => this.#resize(),
      () => this.#killCore(),
      ...(people.length < PEOPLE_MAX ? [() => this.#enter(), () => this.#enter()] : []),
    ];
    return this.#pick(deeds)();
  }

  async close(): Promise<void> {
    await Promise.all(this.people.map(({ page }) => page.close()));
  }

  #pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.#random() * list.length)] as T;
  }

  async #enter(): Promise<string> {
    const name = NAMES[this.#come % NAMES.length] as string;
    this.#come += 1;
    const [camera, microphone] = [this.#random() < 0.8, this.#random() < 0.8];
    const page = await openPage();
    const sends = `camera=${Number(camera)}&microphone=${Number(microphone)}`;
    await page.goto(
      `${server.httpUrl}/?room=${this.#room}&name=${name}&autojoin=1&height=360&fps=15&${sends}`,
    );
    await page.waitForSelector('[data-status="joined"]');
    this.people.push({ name, page, camera, microphone, screen: false });
    return `${name} enters`;
  }

  #goes(): Person {
    const [person] = this.people.splice(Math.floor(this.#random() * this.people.length), 1);
    return person as Person;
  }

  async #leave(): Promise<string> {
    const { name, page } = this.#goes();
    await page.click('[data-control="leave"]');
    await page.close();
    return `${name} leaves`;
  }

  async #closeTab(): Promise<string> {
    const { name, page } = this.#goes();
    await page.close();
    return `${name} closes the tab`;
  }

  async #reload(): Promise<string> {
    const person = this.#pick(this.people);
    // As the link says it, not as it was left.
    const link = new URL(person.page.url()).searchParams;
    person.camera = link.get('camera') !== '0';
    person.microphone = link.get('microphone') !== '0';
    person.screen = false;
    await person.page.reload();
    await person.page.waitForSelector('[data-status="joined"]');
    return `${person.name} reloads`;
  }

  async #toggle(source: 'camera' | 'microphone' | 'screen'): Promise<string> {
    const person = this.#pick(this.people);
    await person.page.click(`[data-control="${source}"]`);
    person[source] = !person[source];
    return `${person.name} turns the ${source} ${person[source] ? 'on' : 'off'}`;
  }

  async #killCore(): Promise<string> {
    const { died } = await server.killCore();
    return `data core ${died} dies`;
  }

  async #resize(): Promise<string> {
    const { name, page } = this.#pick(this.people);
    const [width, height] = this.#pick([
      [1280, 720],
      [800, 600],
      [420, 800],
    ] as const);
    await page.setViewportSize({ width, height });
    return `${name}'s window is ${width} × ${height}`;
  }
}

test.each(SEEDS)(
  'whatever people do, everyone sees and hears who is there (seed %i)',
  async (seed) => {
    const meeting = new Meeting(seed);
    await meeting.begin();
    for (let step = 1; step <= STEPS; step += 1) {
      const what = `${step}: ${await meeting.step()}`;
      console.info(what);
      await everyoneMeets(meeting.people, what);
    }
    await meeting.close();
  },
);
