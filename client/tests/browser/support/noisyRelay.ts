import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { TestServer } from './server';

/**
 * A link to a server's first data core on which a stranger writes too: datagrams of its own, so many a second, which
 * bear the address of each client.
 */
export class NoisyRelay {
  readonly #front = createSocket('udp4');
  readonly #upstreams = new Map<number, Socket>();
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #server: number;
  readonly #noise: (index: number) => Buffer;
  readonly #everyMs: number;
  /** Datagrams of the stranger's that were sent. */
  sent = 0;

  private constructor(server: number, perSecond: number, noise: (index: number) => Buffer) {
    this.#server = server;
    this.#noise = noise;
    this.#everyMs = 1000 / perSecond;
    this.#front.on('message', (packet, from) =>
      this.#upstream(from).send(packet, server, '127.0.0.1'),
    );
  }

  static async start(
    server: TestServer,
    perSecond: number,
    noise: (index: number) => Buffer,
  ): Promise<NoisyRelay> {
    const relay = new NoisyRelay(server.ports.rtc, perSecond, noise);
    relay.#front.bind(0, '127.0.0.1');
    await once(relay.#front, 'listening');
    return relay;
  }

  get port(): number {
    return this.#front.address().port;
  }

  /** The socket that stands for a client. */
  #upstream(client: RemoteInfo): Socket {
    const known = this.#upstreams.get(client.port);
    if (known) return known;
    const socket = createSocket('udp4');
    socket.on('message', (packet) => this.#front.send(packet, client.port, client.address));
    this.#upstreams.set(client.port, socket);
    const began = performance.now();
    let sent = 0;
    // Timers are late: what is due by now is sent.
    const timer = setInterval(() => {
      for (; sent < (performance.now() - began) / this.#everyMs; sent += 1) {
        socket.send(this.#noise(sent), this.#server, '127.0.0.1');
        this.sent += 1;
      }
    }, this.#everyMs);
    this.#timers.push(timer);
    return socket;
  }

  stop(): void {
    for (const timer of this.#timers) clearInterval(timer);
    for (const socket of [this.#front, ...this.#upstreams.values()]) socket.close();
  }
}
