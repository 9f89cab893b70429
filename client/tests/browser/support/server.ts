import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { createWriteStream, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { inject } from 'vitest';
import { get } from './request';
import { ceilingMs, until } from './wait';

/** How to start a server. */
export interface ServerOptions {
  /** Goes into the name of its log. */
  name: string;
  /** Beside those for addresses and ports. */
  flags?: string[];
  /** Where media and pages are served. */
  ip?: '127.0.0.1' | '::1';
  /** Where media alone are served, if elsewhere. */
  mediaIp?: string;
  workers?: number;
  /** Whether its flags make it speak TLS. */
  tls?: boolean;
  /** Pages of its flags' instead of the meeting page. */
  pageDir?: false;
  /** Given when a server is to come back where it was. */
  ports?: Ports;
}

interface Ports {
  http: number;
  rtc: number;
}

/** What `/healthz` says of data cores. */
export interface Workers {
  died: number;
  recovered: number;
  lastRecoveryMs: number;
}

const repository = join(import.meta.dirname, '../../../..');
const out = join(import.meta.dirname, '../out');

/** A running `opencall-sfu`. */
export class TestServer {
  readonly #process: ChildProcess;
  readonly #host: string;
  readonly #tls: boolean;
  readonly #exited: Promise<number | null>;
  readonly ports: Ports;

  private constructor(process: ChildProcess, host: string, tls: boolean, ports: Ports) {
    this.#process = process;
    this.#host = host;
    this.#tls = tls;
    this.ports = ports;
    this.#exited = new Promise((resolve) => process.once('exit', resolve));
  }

  /** Starts a server on free ports and waits until it answers. */
  static async start(options: ServerOptions): Promise<TestServer> {
    const ip = options.ip ?? '127.0.0.1';
    const mediaIp = options.mediaIp ?? ip;
    const workers = options.workers ?? 1;
    const ports = options.ports ?? {
      http: await freeTcpPort(ip),
      rtc: await freeUdpPorts(mediaIp, workers),
    };
    const host = `${ip.includes(':') ? `[${ip}]` : ip}:${ports.http}`;
    const flags = [
      `--listen-ip=${mediaIp}`,
      `--http-listen=${host}`,
      `--rtc-min-port=${ports.rtc}`,
      `--workers=${workers}`,
      // Two threads bound to the same few CPUs as the browser would only disturb each other.
      '--pin=false',
      ...(options.pageDir === false ? [] : [`--page-dir=${join(repository, 'client/dist')}`]),
      // The harness, where there is one, is a page of another server.
      `--allowed-origins=${['self', inject('pagesUrl')].filter(Boolean).join()}`,
      ...(options.flags ?? []),
    ];
    mkdirSync(out, { recursive: true });
    const child = spawn(serverPath(), flags, { stdio: ['ignore', 'pipe', 'pipe'] });
    const log = createWriteStream(join(out, `${options.name}.server.log`), { flags: 'a' });
    log.write(`\n--- ${new Date().toISOString()} ${flags.join(' ')}\n`);
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    const server = new TestServer(child, host, options.tls ?? false, ports);
    await server.#ready(join(out, `${options.name}.server.log`));
    return server;
  }

  /** `http://…` or `https://…`, without a slash at the end. */
  get httpUrl(): string {
    return `${this.#tls ? 'https' : 'http'}://${this.#host}`;
  }

  /** `ws://…` or `wss://…`, without a slash at the end. */
  get wsUrl(): string {
    return `${this.#tls ? 'wss' : 'ws'}://${this.#host}`;
  }

  /** Asks it to stop, as an operator would; resolves to its exit status. */
  async stop(): Promise<number | null> {
    this.#process.kill('SIGTERM');
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), ceilingMs());
    const status = await this.#exited;
    clearTimeout(timer);
    return status;
  }

  /** Ends it without a chance to say anything. */
  async kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#exited;
  }

  /** Kills the server that this supervisor runs, and waits until another answers. */
  async killSupervised(): Promise<void> {
    const { pid } = this.#process;
    const child = () => readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
    const before = child();
    process.kill(Number(before), 'SIGKILL');
    await until(
      'another server',
      async () => child(),
      (now) => now !== '' && now !== before,
    );
    await this.#ready('its own');
  }

  /** Stops it where it is, with all connections open, or lets it go on. */
  freeze(isFrozen: boolean): void {
    this.#process.kill(isFrozen ? 'SIGSTOP' : 'SIGCONT');
  }

  /** How many data cores died and were replaced. */
  async workers(): Promise<Workers> {
    const { body } = await get(`${this.httpUrl}/healthz`);
    return JSON.parse(body).workers;
  }

  /** Kills a data core, each in turn, and waits until another thread has its place. Needs `--debug-faults`. */
  async killCore(): Promise<Workers> {
    const before = await this.workers();
    this.#process.kill('SIGUSR1');
    return until(
      'a data core that died is replaced',
      () => this.workers(),
      ({ died, recovered }) => died > before.died && recovered === died,
    );
  }

  async #ready(log: string): Promise<void> {
    const deadline = Date.now() + ceilingMs();
    while (Date.now() < deadline) {
      if (this.#process.exitCode !== null) break;
      try {
        if ((await get(`${this.httpUrl}/healthz`)).status === 200) return;
      } catch {
        // Not listening yet.
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    this.#process.kill('SIGKILL');
    throw new Error(`the server did not come up; its log is ${log}`);
  }
}

function serverPath(): string {
  return programPath('opencall-sfu', 'OPENCALL_SFU');
}

/** Where a program of this repository was built, unless the variable tells. */
export function programPath(name: string, variable: string): string {
  const target = process.env.CARGO_TARGET_DIR ?? join(repository, 'target');
  const candidates = [
    process.env[variable],
    join(target, 'debug', name),
    join(target, 'release', name),
  ];
  const found = candidates.find((path) => path && existsSync(path));
  if (!found) throw new Error(`no ${name}: cargo build, or set ${variable}`);
  return found;
}

/** A TCP port that is free now. */
export function freeTcpPort(ip: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, ip, () => {
      const address = probe.address();
      const port = typeof address === 'object' && address ? address.port : 0;
      probe.close(() => resolve(port));
    });
  });
}

/** The first of `count` ports in a row that are free now. */
async function freeUdpPorts(ip: string, count: number): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    // Below the range from which the kernel gives ports away.
    const first = 20_000 + Math.floor(Math.random() * 10_000);
    const ports = Array.from({ length: count }, (_, index) => first + index);
    const free = await Promise.all(ports.map((port) => isUdpPortFree(ip, port)));
    if (free.every(Boolean)) return first;
  }
  throw new Error('no free UDP ports');
}

function isUdpPortFree(ip: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createSocket(ip.includes(':') ? 'udp6' : 'udp4');
    probe.once('error', () => resolve(false));
    probe.bind(port, ip, () => probe.close(() => resolve(true)));
  });
}
