import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Page } from 'playwright-core';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openHarness, openPage } from './support/chromium';
import { TestServer } from './support/server';
import { endTalk, pictures, startTalk } from './support/talk';
import { holds } from './support/timing';
import { until } from './support/wait';

const run = promisify(execFile);
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const SECRET = 'an admin secret for tests of 32 bytes';

/** How far the ends of sound and pictures may be apart: a picture of a crowded machine. */
const END_MS = 600;

let folder: string;
let server: TestServer;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'opencall-recording-'));
  server = await TestServer.start({
    name: 'recording',
    flags: [`--admin-key=ops=${SECRET}`, `--recording-dir=${folder}`, '--recording-min-free=0'],
    workers: 2,
  });
});

afterEach(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

interface Recording {
  active: boolean;
  state: string | null;
  folder: string | null;
  ending: string | null;
}

/** How long pages of a crowded machine may take to hear what they were told. */
const NOTICE_SECONDS = 5;

async function recording(method: string, room: string, notice?: number): Promise<Recording> {
  const path = `/v1/rooms/${encodeURIComponent(room)}/recording`;
  const headers = { authorization: `Bearer ${SECRET}` };
  const body = notice === undefined ? {} : { body: JSON.stringify({ noticeSeconds: notice }) };
  const answer = await fetch(`${server.httpUrl}${path}`, { method, headers, ...body });
  expect(answer.status, await answer.clone().text()).toBe(200);
  return (await answer.json()) as Recording;
}

const stateIs = (room: string, state: string) =>
  until(
    `the recording is ${state}`,
    () => recording('GET', room),
    (report) => report.state === state,
  );

interface Manifest {
  state: string;
  startedAtUnixMs: number;
  packetsLost: number;
  participants: {
    participant: string;
    displayName: string;
    files: {
      file: string;
      startMs: number;
      durationMs: number;
      tracks: { source: string; codec: string; firstMs: number; lastMs: number }[];
    }[];
  }[];
}

const place = () => join(folder, readdirSync(folder)[0] ?? 'nothing');
const manifest = (): Manifest => JSON.parse(readFileSync(join(place(), 'recording.json'), 'utf8'));

interface Probe {
  streams: { codec_name: string; width?: number; start_time: string }[];
  format: { duration?: string };
}

async function probe(file: string): Promise<Probe> {
  const flags = ['-v', 'error', '-show_streams', '-show_format', '-of', 'json'];
  const { stdout, stderr } = await run('ffprobe', [...flags, file]);
  expect(stderr).toBe('');
  return JSON.parse(stdout);
}

/** Decodes all of it, and ends with the first error; seconds that were decoded. */
async function decode(file: string): Promise<number> {
  const flags = ['-nostdin', '-xerror', '-v', 'error', '-stats'];
  // Pictures at their own times, and not as often as a guess says.
  const asTheyAre = ['-fps_mode', 'passthrough', '-enc_time_base:v', '-1'];
  const { stderr } = await run('ffmpeg', [...flags, '-i', file, ...asTheyAre, '-f', 'null', '-']);
  const errors = stderr.split(/[\r\n]+/).filter((line) => line && !line.startsWith('frame='));
  expect(errors).toEqual([]);
  const [, hours, minutes, seconds] = /.*time=(\d+):(\d+):([\d.]+)/s.exec(stderr) ?? [];
  return Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds);
}

/** The packets' times of one track, seconds. */
async function times(file: string, stream: string): Promise<number[]> {
  const entries = ['-select_streams', stream, '-show_entries', 'packet=pts_time', '-of', 'csv=p=0'];
  const { stdout } = await run('ffprobe', ['-v', 'error', ...entries, file]);
  return stdout.split('\n').filter(Boolean).map(Number.parseFloat);
}

const pagesOf = (name: string) => `${server.httpUrl}/?room=council&name=${name}&autojoin=1&lang=en`;

/** Notes in the page when it was told that it is going to be recorded. */
async function noteConsent(page: Page): Promise<void> {
  await page.waitForSelector('[data-status="joined"]');
  await page.evaluate(() => {
    window.__meeting?.on('recordingChanged', ({ recording }) => {
      if (recording) document.body.dataset.told ??= String(Date.now());
    });
  });
}

async function meet(...names: string[]): Promise<Page[]> {
  const pages: Page[] = [];
  for (const name of names) {
    const page = await openPage();
    await page.goto(pagesOf(name));
    await noteConsent(page);
    pages.push(page);
  }
  for (const page of pages) {
    await until(
      'everyone sees everyone',
      () => page.evaluate(() => window.__meeting?.snapshot.participants.length),
      (count) => count === names.length,
    );
  }
  return pages;
}

test('a meeting of two is recorded as it was, after both were told', async () => {
  const pages = await meet('Ann', 'Ben');
  expect((await recording('GET', 'council')).active).toBe(false);
  await recording('POST', 'council', NOTICE_SECONDS);
  expect(readdirSync(folder)).toEqual([]);
  await stateIs('council', 'recording');
  await pause(10_000);
  for (const page of pages) await page.getByText('Recording', { exact: true }).waitFor();
  const late = await openPage();
  await late.goto(pagesOf('Cleo'));
  await late.getByText('Recording', { exact: true }).waitFor();
  await late.close();
  await recording('DELETE', 'council');
  const report = await stateIs('council', 'ended');
  expect(report.ending).toBe('stopped');

  const told = await Promise.all(
    pages.map((page) => page.evaluate(() => Number(document.body.dataset.told))),
  );
  const made = statSync(place()).birthtimeMs;
  for (const at of told) expect(at).toBeLessThan(made);
  const { participants, state, packetsLost } = manifest();
  expect({ state, packetsLost }).toEqual({ state: 'stopped', packetsLost: 0 });
  const names = participants.map(({ displayName }) => displayName).sort();
  expect(names.slice(0, 2)).toEqual(['Ann', 'Ben']);
  for (const { displayName, files } of participants) {
    if (displayName === 'Cleo') continue;
    const sources = files.flatMap(({ tracks }) => tracks.map(({ source }) => source));
    expect(sources.sort()).toEqual(['camera', 'microphone']);
    const ends = [];
    for (const { file, durationMs, startMs, tracks } of files) {
      const path = join(place(), file);
      const { streams, format } = await probe(path);
      const codecs = streams.map(({ codec_name }) => codec_name);
      expect(codecs).toEqual(tracks.map(({ codec }) => codec));
      expect(Math.abs(Number(format.duration) * 1_000 - durationMs)).toBeLessThan(100);
      expect((await decode(path)) * 1_000).toBeGreaterThan(durationMs - 300);
      for (const [index, { codec }] of tracks.entries()) {
        const frames = await times(path, String(index));
        // A crowded machine encodes few pictures.
        const least = durationMs / (codec === 'opus' ? 22 : 500);
        expect(frames.length).toBeGreaterThan(least);
        ends.push(startMs + (frames.at(-1) ?? 0) * 1_000);
      }
    }
    expect(Math.min(...ends)).toBeGreaterThan(8_500);
    holds(
      'ms between the ends of sound and picture',
      Math.max(...ends) - Math.min(...ends),
      END_MS,
    );
  }
  for (const page of pages) await page.close();
  await compose(participants.flatMap(({ files }) => files));
});

/** One film of all, as long as the meeting. */
async function compose(files: { startMs: number; durationMs: number }[]): Promise<void> {
  const film = join(place(), 'film.mkv');
  const script = join(import.meta.dirname, '../../../scripts/compose-recording');
  await run(script, ['--height', '240', '--rate', '10', place(), film]);
  const { streams } = await probe(film);
  expect(streams).toHaveLength(2);
  const end = Math.max(...files.map(({ startMs, durationMs }) => startMs + durationMs));
  expect(Math.abs((await decode(film)) * 1_000 - end)).toBeLessThan(300);
}

test('what is there when the server is killed can be played', async () => {
  const pages = await meet('Ann', 'Ben');
  await recording('POST', 'council');
  await stateIs('council', 'recording');
  const began = Date.now();
  await pause(6_000);
  await server.kill();
  const passed = Date.now() - began;
  const { participants, state } = manifest();
  expect(state).toBe('recording');
  const files = participants.flatMap(({ files }) => files);
  let last = 0;
  for (const { file, startMs } of files) {
    const path = join(place(), file);
    const end = Math.max(...(await times(path, 'a')), ...(await times(path, 'v')));
    last = Math.max(last, startMs + end * 1_000);
    await decode(path);
  }
  // The last cluster, what waited for its order, and when the state was asked for.
  expect(last).toBeGreaterThan(passed - 2_500);
  for (const page of pages) await page.close();
});

/** Those that every Chromium has are in each run, the others in `scripts/prove recording`. */
const codecs = process.env.OPENCALL_PROVE ? ['VP8', 'VP9', 'H264', 'AV1'] : [];

test.each(codecs)('%s is recorded as it comes, with simulcast and without', async (codec) => {
  const call = await openHarness();
  const encoders = await call('encoders');
  if (!encoders.includes(codec)) return;
  for (const simulcast of [false, true]) {
    const video = { codec, simulcast, width: 960, height: 540, fps: 15, steady: true };
    const talk = await startTalk(call, server, { video });
    await pictures(call, talk.receiver, talk.videoId, 15);
    await recording('POST', talk.room);
    await stateIs(talk.room, 'recording');
    await pause(8_000);
    await recording('DELETE', talk.room);
    const report = await stateIs(talk.room, 'ended');
    await endTalk(call, talk);
    const own = join(folder, report.folder ?? '');
    const files = readdirSync(own).filter((name) => name.endsWith('.mkv'));
    expect(files).toHaveLength(1);
    const path = join(own, files[0] ?? '');
    const { streams } = await probe(path);
    const found = streams.find(({ width }) => width !== undefined);
    expect(found?.codec_name).toBe(codec.toLowerCase());
    expect(await decode(path)).toBeGreaterThan(6.5);
    expect(existsSync(join(own, 'recording.json'))).toBe(true);
  }
});
