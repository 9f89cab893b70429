import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ceilingMs } from './wait';

/** What the peer has received of one producer. */
export interface AiortcReceived {
  kind: string;
  frames: number;
  energy: number;
  size: [number, number] | null;
  contrast: number;
  packetsReceived: number;
  /** Before retransmission. */
  packetsLost: number;
  retransmittedPacketsReceived: number;
  senderReports: number;
}

/** What the peer has sent of one producer. */
export interface AiortcSent {
  kind: string;
  packetsSent: number;
  receiverReports: number;
  packetsLost: number;
}

/** What the peer tells of itself. */
export interface AiortcReport {
  sent: Record<string, AiortcSent>;
  received: Record<string, AiortcReceived>;
  iceRole: string;
  send: { dtls: string; srtp: string } | null;
  recv: { dtls: string; srtp: string } | null;
  notifications: string[];
}

const repository = join(import.meta.dirname, '../../../..');
const out = join(import.meta.dirname, '../out');

/** A participant made of aiortc, in a process of its own. */
export class AiortcPeer {
  readonly #process: ChildProcess;
  readonly #exited: Promise<number | null>;
  #report: AiortcReport | undefined;

  constructor(name: string, wsUrl: string, room: string, peerId: string, flags: string[] = []) {
    mkdirSync(out, { recursive: true });
    const script = join(import.meta.dirname, '../../interop/aiortc_peer.py');
    this.#process = spawn(pythonPath(), [script, wsUrl, room, peerId, ...flags]);
    const log = createWriteStream(join(out, `${name}.aiortc.log`), { flags: 'a' });
    log.write(`\n--- ${new Date().toISOString()} ${room} ${flags.join(' ')}\n`);
    this.#process.stderr?.pipe(log, { end: false });
    this.#exited = new Promise((resolve) => this.#process.once('exit', resolve));
    if (!this.#process.stdout) throw new Error('unreachable: the output is a pipe');
    createInterface(this.#process.stdout).on('line', (line) => {
      log.write(`${line}\n`);
      this.#report = JSON.parse(line);
    });
  }

  /** The latest report; an error once the peer has ended. */
  async report(): Promise<AiortcReport | undefined> {
    if (this.#process.exitCode !== null) {
      throw new Error(`the aiortc peer ended with ${this.#process.exitCode}; see its log in out/`);
    }
    return this.#report;
  }

  /** Asks it to leave; resolves to its exit status. */
  async stop(): Promise<number | null> {
    this.#process.stdin?.end();
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), ceilingMs());
    const status = await this.#exited;
    clearTimeout(timer);
    return status;
  }
}

function pythonPath(): string {
  const path = process.env.OPENCALL_INTEROP_PYTHON ?? join(repository, '.cache/interop/bin/python');
  if (existsSync(path)) return path;
  throw new Error(`no Python with aiortc at ${path}: scripts/test makes it`);
}
