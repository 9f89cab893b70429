// The package ships no types; these are of what the harness uses.
declare module 'protoo-client' {
  interface Message {
    method: string;
    data: Record<string, unknown>;
  }
  type Accept = (data?: object) => void;
  type Reject = (code: number, reason: string) => void;

  export class WebSocketTransport {
    constructor(url: string, options?: object);
  }

  export class Peer {
    constructor(transport: WebSocketTransport);
    get connected(): boolean;
    request(method: string, data?: object): Promise<unknown>;
    notify(method: string, data?: object): Promise<void>;
    close(): void;
    on(event: 'open' | 'failed' | 'disconnected' | 'close', listener: () => void): void;
    on(
      event: 'request',
      listener: (request: Message, accept: Accept, reject: Reject) => void,
    ): void;
    on(event: 'notification', listener: (notification: Message) => void): void;
  }
}
