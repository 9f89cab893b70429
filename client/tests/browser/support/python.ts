import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
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
  /** Pictures that differ from the fifth before them, of every fifth. */
  changes: number;
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

/** What the GStreamer peer has received of one producer. */
export interface GStreamerReceived {
  kind: string;
  frames: number;
  /** Pictures that differ from the one before. */
  changes: number;
  energy: number;
  size: [number, number] | null;
}

/** One end of DTLS of the GStreamer peer. */
export interface GStreamerSecurity {
  role: 'client' | 'server';
  /** The type of its certificate's key. */
  key: string;
}

/** What the GStreamer peer tells of itself. */
export interface GStreamerReport {
  /** Kinds by producer. */
  sent: Record<string, string>;
  received: Record<string, GStreamerReceived>;
  /** Absent until connected. */
  send: GStreamerSecurity | null;
  recv: GStreamerSecurity | null;
}

const repository = join(import.meta.dirname, '../../../..');
const interop = join(import.meta.dirname, '../../interop');
const out = join(import.meta.dirname, '../out');

/** A participant in Python, in a process of its own, that reports what it has so far. */
export class PythonPeer<Report> {
  readonly #script: string;
  readonly #process: ChildProcess;
  readonly #exited: Promise<number | null>;
  #report: Report | undefined;

  /** Starts a script of `client/tests/interop`; the name goes into that of its log. */
  constructor(script: string, name: string, parameters: string[]) {
    mkdirSync(out, { recursive: true });
    this.#script = script;
    this.#process = spawn(pythonPath(), [join(interop, script), ...parameters]);
    const log = createWriteStream(join(out, `${name}.peer.log`), { flags: 'a' });
    log.write(`\n--- ${new Date().toISOString()} ${script} ${parameters.join(' ')}\n`);
    this.#process.stderr?.pipe(log, { end: false });
    this.#exited = new Promise((resolve) => this.#process.once('exit', resolve));
    if (!this.#process.stdout) throw new Error('unreachable: the output is a pipe');
    createInterface(this.#process.stdout).on('line', (line) => {
      log.write(`${line}\n`);
      this.#report = JSON.parse(line);
    });
  }

  /** The latest report; an error once the peer has ended. */
  async report(): Promise<Report | undefined> {
    const { exitCode, signalCode } = this.#process;
    if (exitCode !== null || signalCode !== null) {
      throw new Error(`${this.#script} ended with ${exitCode ?? signalCode}; see its log in out/`);
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

/** A participant made of aiortc. */
export class AiortcPeer extends PythonPeer<AiortcReport> {
  constructor(name: string, wsUrl: string, room: string, peerId: string, flags: string[] = []) {
    super('aiortc_peer.py', name, [wsUrl, room, peerId, ...flags]);
  }
}

/** What the peer with data channels tells of itself. */
export interface AiortcDataReport {
  /** Those that the server opened, by label. */
  channels: Record<string, { id: number; ordered: boolean; state: string }>;
  /** Label, and text or number of bytes. */
  messages: [string, string | number][];
}

/** A participant made of aiortc with data channels alone. */
export class AiortcDataPeer extends PythonPeer<AiortcDataReport> {
  constructor(name: string, wsUrl: string, room: string, peerId: string) {
    super('aiortc_data_peer.py', name, [wsUrl, room, peerId]);
  }
}

/** A participant made of GStreamer's webrtcbin. */
export class GStreamerPeer extends PythonPeer<GStreamerReport> {
  constructor(name: string, wsUrl: string, room: string, peerId: string, flags: string[] = []) {
    super('gstreamer_peer.py', name, [wsUrl, room, peerId, ...flags]);
  }

  /** What is not installed of GStreamer; nothing where a peer can run. */
  static missing(): string {
    const script = join(interop, 'gstreamer_peer.py');
    return spawnSync(pythonPath(), [script, '--check'], { encoding: 'utf8' }).stderr.trim();
  }
}

function pythonPath(): string {
  const path = process.env.OPENCALL_INTEROP_PYTHON ?? join(repository, '.cache/interop/bin/python');
  if (existsSync(path)) return path;
  throw new Error(`no Python with aiortc at ${path}: scripts/test makes it`);
}
