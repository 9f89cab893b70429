import type { AddressInfo } from 'node:net';
import { createServer, connect as dial, type Server, type Socket } from 'node:net';
import type { TestServer } from './server';

/** A way to a server's TCP port that can be cut, as by a network that is gone; UDP has another. */
export class CuttableLink {
  readonly #server: TestServer;
  readonly #sockets = new Set<Socket>();
  #listener: Server | undefined;
  port = 0;

  private constructor(server: TestServer) {
    this.#server = server;
  }

  static async start(server: TestServer): Promise<CuttableLink> {
    const link = new CuttableLink(server);
    await link.restore();
    return link;
  }

  get httpUrl(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get wsUrl(): string {
    return `ws://127.0.0.1:${this.port}`;
  }

  /** Ends all connections, and lets none through. */
  cut(): void {
    this.#listener?.close();
    this.#listener = undefined;
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  async restore(): Promise<void> {
    const listener = createServer((near) => {
      const far = dial(this.#server.ports.http, '127.0.0.1');
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => {
          this.#sockets.delete(socket);
          near.destroy();
          far.destroy();
        });
      }
      near.pipe(far);
      far.pipe(near);
    });
    this.#listener = listener;
    await new Promise<void>((resolve) => listener.listen(this.port, '127.0.0.1', resolve));
    this.port = (listener.address() as AddressInfo).port;
  }
}
