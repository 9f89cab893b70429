import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { programPath, type TestServer } from './server';

/** What the link does to packets. */
export interface Impairment {
  lossUpPercent?: number;
  lossDownPercent?: number;
  delayMs?: number;
  /** The bottleneck each way, and how much may wait at it. */
  rateKbps?: number;
  queueKb?: number;
  seed: number;
}

/** A bad link to a server's first data core. */
export class Relay {
  readonly #process: ChildProcess;
  readonly port: number;

  private constructor(process: ChildProcess, port: number) {
    this.#process = process;
    this.port = port;
  }

  static async start(server: TestServer, impairment: Impairment): Promise<Relay> {
    const child = spawn(
      programPath('opencall-bench', 'OPENCALL_BENCH'),
      [
        'link',
        `--server=127.0.0.1:${server.ports.rtc}`,
        `--loss-up=${impairment.lossUpPercent ?? 0}`,
        `--loss-down=${impairment.lossDownPercent ?? 0}`,
        `--delay-ms=${impairment.delayMs ?? 0}`,
        ...(impairment.rateKbps ? [`--rate-kbps=${impairment.rateKbps}`] : []),
        ...(impairment.queueKb ? [`--queue-kb=${impairment.queueKb}`] : []),
        `--seed=${impairment.seed}`,
      ],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    // Read to the end, so that the relay never waits for a full pipe.
    const [line] = await once(createInterface(child.stdout), 'line');
    const port = /^relaying \S+:(\d+) to /.exec(line)?.[1];
    if (!port) throw new Error(`the relay said: ${line}`);
    return new Relay(child, Number(port));
  }

  /** Gives the way to the clients another bottleneck. */
  setDownRate(kbps: number): void {
    this.#process.stdin?.write(`down-rate-kbps ${kbps}\n`);
  }

  stop(): void {
    this.#process.kill();
  }
}
