import http from 'node:http';
import https from 'node:https';

/** A request from an address of one's own. */
export interface RequestOptions {
  /** Where it comes from: any of 127.0.0.0/8. */
  localAddress?: string;
  headers?: Record<string, string>;
}

/** An answer; `socket` when it became a WebSocket, for the caller to destroy. */
export interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: string;
  socket?: { destroy(): void };
}

/** Gets a page from a server whose certificate nobody has signed. */
export function get(url: string, options: RequestOptions = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { request } = url.startsWith('https:') ? https : http;
    const asked = request(url, { ...options, agent: false, rejectUnauthorized: false } as object);
    asked.once('error', reject);
    asked.once('upgrade', ({ statusCode, headers }, socket) => {
      resolve({ status: statusCode ?? 0, headers, body: '', socket });
    });
    asked.once('response', async (response) => {
      let body = '';
      for await (const part of response) body += part;
      resolve({ status: response.statusCode ?? 0, headers: response.headers, body });
    });
    asked.end();
  });
}

/** Asks for a WebSocket, without speaking on it. */
export function openSocket(url: string, localAddress: string): Promise<Answer> {
  const headers = {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
  };
  return get(`${url}/ws`, { localAddress, headers });
}
