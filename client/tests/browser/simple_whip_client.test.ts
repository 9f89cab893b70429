import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { createWriteStream, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { AccessToken } from 'livekit-server-sdk';
import { expect, test } from 'vitest';
import { openWish } from './support/chromium';
import { ownAddress } from './support/firefox';
import { get } from './support/request';
import { TestServer } from './support/server';
import { newRoom } from './support/talk';
import { until } from './support/wait';

const SECRET = '0123456789abcdefghijklmnopqrstuv';
const out = join(import.meta.dirname, 'out/simple-whip-client');

const isMissing = spawnSync('whip-client', ['--help']).error !== undefined;

const AUDIO = [
  'audiotestsrc is-live=true ! audioconvert ! audioresample ! queue ! opusenc',
  'rtpopuspay pt=100 ssrc=1 ! queue',
  'application/x-rtp,media=audio,encoding-name=OPUS,payload=100',
].join(' ! ');
const VIDEO = [
  'videotestsrc is-live=true pattern=ball ! videoconvert ! queue',
  'vp8enc deadline=1 keyframe-max-dist=30 ! rtpvp8pay pt=96 ssrc=2 ! queue',
  'application/x-rtp,media=video,encoding-name=VP8,payload=96',
].join(' ! ');

/** Meetecho's client, of which GStreamer's webrtcbin is the stack. */
function publish(url: string, token: string): ChildProcess {
  mkdirSync(out, { recursive: true });
  const name = 'libgupnp-igd-1.0.so.4';
  const source = join(import.meta.dirname, '../interop/no_igd.c');
  execFileSync('cc', ['-shared', '-fPIC', `-Wl,-soname,${name}`, '-o', join(out, name), source]);
  const flags = ['-u', url, '-t', token, '-A', AUDIO, '-V', VIDEO, '-o'];
  const env = { ...process.env, LD_LIBRARY_PATH: out };
  const child = spawn('whip-client', flags, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const log = createWriteStream(join(out, 'log'));
  child.stdout?.pipe(log, { end: false });
  child.stderr?.pipe(log, { end: false });
  return child;
}

test.skipIf(isMissing)(
  `simple-whip-client publishes by WHIP and Chromium sees and hears it${isMissing ? ': not installed' : ''}`,
  async () => {
    // libnice gathers no loopback candidates.
    const server = await TestServer.start({
      name: 'simple-whip-client',
      mediaIp: ownAddress(),
      flags: [`--auth-key=key=${SECRET}`],
    });
    const room = newRoom();
    const grant = new AccessToken('key', SECRET, { identity: 'cam' });
    grant.addGrant({ roomJoin: true, room });
    const token = await grant.toJwt();
    const count = async (of: string) =>
      JSON.parse((await get(`${server.httpUrl}/healthz`)).body)[of];
    const client = publish(`${server.httpUrl}/whip/${room}`, token);
    const exited = new Promise((resolve) => client.once('exit', resolve));
    try {
      await until(
        'it has published',
        () => count('producers'),
        (producers) => producers === 2,
      );
      const call = await openWish();
      await call('watch', 'eye', 'whipWhep', `${server.httpUrl}/whep/${room}`, token);
      await until(
        'pictures and sound',
        () => call('shown', 'eye'),
        ({ frames, energy }) => frames >= 30 && energy > 0,
      );
      client.kill('SIGINT');
      await exited;
      // Who watches stays.
      await until(
        'it has gone',
        () => count('peers'),
        (peers) => peers === 1,
      );
    } finally {
      client.kill('SIGKILL');
      expect(await server.stop(), 'exit status of the server').toBe(0);
    }
  },
);
