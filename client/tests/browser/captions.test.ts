import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { chromium, type Page } from 'playwright-core';
import { afterEach, expect, test } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import { openPage } from './support/chromium';
import { TestServer } from './support/server';
import { CHROMIUM, CHROMIUM_SWITCHES } from './support/switches';
import { holds } from './support/timing';
import { ceilingMs, until } from './support/wait';

const SECRET = 'an admin secret for tests of 32 bytes';
const OUT = join(import.meta.dirname, 'out');

const ends: (() => unknown)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function startServer(program: string): Promise<TestServer> {
  const flags = [`--admin-key=ops=${SECRET}`, `--tap-allow=${program}`];
  const server = await TestServer.start({ name: 'captions', flags, workers: 1 });
  ends.push(() => server.stop());
  return server;
}

async function tap(server: TestServer, method: string, url?: string): Promise<void> {
  const headers = { authorization: `Bearer ${SECRET}` };
  const body = url === undefined ? {} : { body: JSON.stringify({ url, noticeSeconds: 0 }) };
  const answer = await fetch(`${server.httpUrl}/v1/rooms/council/tap`, {
    method,
    headers,
    ...body,
  });
  expect(answer.status, await answer.clone().text()).toBe(200);
}

async function enter(page: Page, server: TestServer, name: string, lang: string): Promise<void> {
  await page.goto(`${server.httpUrl}/?room=council&name=${name}&autojoin=1&lang=${lang}`);
  await page.waitForSelector('[data-status="joined"]');
}

/** Waits until both see both, with their voices. */
async function together(...pages: Page[]): Promise<void> {
  for (const page of pages) {
    await until(
      'everyone hears everyone',
      () =>
        page.evaluate(() => {
          const all = window.__meeting?.snapshot.participants ?? [];
          return all.filter(({ media }) => media.microphone).length;
        }),
      (count) => count === pages.length,
    );
  }
}

/** A program that hears, and says what it is told to. */
async function startProgram() {
  const program = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  await once(program, 'listening');
  ends.push(() => program.close());
  const heard = { endpoints: new Set<string>(), frames: 0, isOver: false };
  let socket: WebSocket | undefined;
  program.on('connection', (connection) => {
    socket = connection;
    connection.on('message', (data) => {
      const message = JSON.parse(String(data));
      if (message.event === 'start') {
        heard.endpoints.add(message.start.customParameters.endpointId);
      }
      if (message.event === 'media') heard.frames += 1;
      if (message.event === 'session-end') heard.isOver = true;
    });
  });
  const say = (id: string, text: string, isInterim = false) => {
    const transcript = [{ text, confidence: 1 }];
    const result = { type: 'transcription-result', is_interim: isInterim, transcript };
    socket?.send(JSON.stringify({ ...result, participant: { id }, language: 'en' }));
  };
  const { port } = program.address() as AddressInfo;
  return { url: `ws://127.0.0.1:${port}`, heard, say };
}

const idOf = (page: Page) =>
  page.evaluate(() => window.__meeting?.snapshot.participants.find((one) => one.isLocal)?.id ?? '');

test('everyone sees that a program hears them, and what it understands', async () => {
  const program = await startProgram();
  const server = await startServer(program.url);
  const [ann, ben] = [await openPage(), await openPage()];
  await enter(ann, server, 'Ann', 'en');
  await enter(ben, server, 'Ben', 'de');
  await together(ann, ben);
  expect(await ben.locator('[data-control="captions"]').count()).toBe(0);
  await tap(server, 'POST', `${program.url}/hear`);
  await ann.getByText('Transcribed', { exact: true }).waitFor();
  await ben.getByText('Wird mitgeschrieben', { exact: true }).waitFor();
  await until(
    'it hears both',
    async () => program.heard.endpoints.size,
    (size) => size === 2,
  );
  const id = await idOf(ann);
  program.say(id, 'good', true);
  program.say(id, '<b>good</b> morning everyone');
  const shown = ben.getByRole('region', { name: 'Untertitel' });
  await shown.getByText('<b>good</b> morning everyone').waitFor();
  expect(await shown.innerText()).toMatch(/^Ann\s/);
  expect(await shown.locator('p').getAttribute('lang')).toBe('en');
  expect(await ben.locator('[data-captions]').innerText()).toContain('Ann: ');
  await ben.screenshot({ path: join(OUT, 'captions-de.png') });
  // By key and by button, for oneself alone.
  await ben.keyboard.press('t');
  expect(await shown.count()).toBe(0);
  const button = ben.getByRole('button', { name: 'Untertitel zeigen' });
  expect(await button.getAttribute('aria-pressed')).toBe('false');
  program.say(id, 'welcome');
  await ann.getByRole('region', { name: 'Captions' }).getByText('welcome').waitFor();
  await button.click();
  await shown.getByText('welcome').waitFor();
  // What was said goes after a while.
  await shown.waitFor({ state: 'detached' });
  expect(program.heard.frames).toBeGreaterThan(50);
  await tap(server, 'DELETE');
  await ann.getByText('Transcribed', { exact: true }).waitFor({ state: 'detached' });
  await until(
    'it is told',
    async () => program.heard.isOver,
    (isOver) => isOver,
  );
});

/** How long after its end a sentence is read: of `scripts/prove captions`. */
const READ_MS = 2_000;

const SENTENCE = 'the meeting begins at nine';

/** What may be said. */
const GRAMMAR = `#JSGF V1.0;
grammar sentences;
public <sentence> = good morning everyone | please open the window | ${SENTENCE} | what time is it now
  | thank you very much | see you next week;
`;

const python = process.env.OPENCALL_CAPTIONS_PYTHON;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((closed) => server.close(closed));
  return port;
}

/** The program that understands English, as `scripts/caption-processor` is started. */
async function startProcessor(python: string, folder: string): Promise<string> {
  const grammar = join(folder, 'sentences.jsgf');
  writeFileSync(grammar, GRAMMAR);
  const listen = `127.0.0.1:${await freePort()}`;
  const script = join(import.meta.dirname, '../../../scripts/caption-processor');
  const flags = ['--listen', listen, '--grammar', grammar];
  const child: ChildProcess = spawn(python, [script, ...flags], { stdio: 'inherit' });
  ends.push(() => child.kill());
  return `ws://${listen}`;
}

/** Someone whose microphone says the sentence, once. */
async function openSpeaker(python: string, folder: string): Promise<Page> {
  const file = join(folder, 'sentence.wav');
  const script = join(import.meta.dirname, '../interop/speak.py');
  await promisify(execFile)(python, [script, file, SENTENCE, '8', '60']);
  const capture = `--use-file-for-fake-audio-capture=${file}%noloop`;
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: [...CHROMIUM_SWITCHES, capture],
  });
  ends.push(() => browser.close());
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(ceilingMs());
  return page;
}

/** Notes when someone is heard, and what is read. */
async function listen(page: Page, id: string): Promise<void> {
  await page.evaluate((id) => {
    const meeting = window.__meeting;
    const media = meeting?.snapshot.participants.find((one) => one.id === id)?.media;
    const track = media?.microphone?.track;
    if (!meeting || !track) throw new Error('nobody to hear');
    const context = new AudioContext();
    const analyser = new AnalyserNode(context, { fftSize: 1024 });
    context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const notes = { heardUntil: 0, read: [] as unknown[] };
    setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      if (samples.some((sample) => Math.abs(sample) > 0.02)) notes.heardUntil = Date.now();
    }, 10);
    meeting.on('captions', (captions) => {
      notes.read.push({ ...captions.at(-1), after: Date.now() - notes.heardUntil });
    });
    Object.assign(window, { __notes: notes });
  }, id);
}

interface Read {
  participantId: string;
  text: string;
  interim: boolean;
  after: number;
}

test.skipIf(!python)('what someone says is read by others, within two seconds', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'opencall-captions-'));
  ends.push(() => rmSync(folder, { recursive: true, force: true }));
  const url = await startProcessor(python ?? '', folder);
  const server = await startServer(url);
  const ben = await openPage();
  await enter(ben, server, 'Ben', 'en');
  await ben.locator('[data-control="microphone"]').click();
  const ann = await openSpeaker(python ?? '', folder);
  await tap(server, 'POST', url);
  await enter(ann, server, 'Ann', 'en');
  await together(ann, ben);
  const id = await idOf(ann);
  await listen(ben, id);
  const notes = () =>
    ben.evaluate(() => (window as unknown as { __notes: { read: Read[] } }).__notes.read);
  const read = await until('the sentence', notes, (all) => all.some((one) => !one.interim));
  const last = read.find(({ interim }) => !interim);
  expect(last).toMatchObject({ participantId: id, text: SENTENCE });
  await ben.getByRole('region', { name: 'Captions' }).getByText(SENTENCE).waitFor();
  await ben.screenshot({ path: join(OUT, 'captions.png') });
  holds('ms from the end of a sentence to its caption', last?.after ?? Infinity, READ_MS);
});
