import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { get } from './request';
import { freeTcpPort, type TestServer } from './server';
import type { Certificate } from './tls';
import { until } from './wait';

/** As docs/OPERATIONS.md shows it, with TLS. */
function configuration(server: TestServer, port: number, certificate: Certificate): string {
  return `
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {}
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  map $http_upgrade $connection_upgrade { default upgrade; "" close; }
  server {
    listen 127.0.0.1:${port} ssl;
    ssl_certificate ${certificate.certificate};
    ssl_certificate_key ${certificate.key};
    location / {
      proxy_pass ${server.httpUrl};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_read_timeout 300s;
    }
  }
}
`;
}

/** Debian's nginx before a server, with TLS. */
export class Nginx {
  readonly #process: ChildProcess;
  /** `https://…`, without a slash at the end. */
  readonly url: string;

  private constructor(process: ChildProcess, url: string) {
    this.#process = process;
    this.url = url;
  }

  static async start(server: TestServer, certificate: Certificate, folder: string): Promise<Nginx> {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    const port = await freeTcpPort('127.0.0.1');
    const file = join(folder, 'nginx.conf');
    writeFileSync(file, configuration(server, port, certificate));
    // It is not in the path of those who are not root.
    const program = ['/usr/sbin/nginx', '/usr/local/sbin/nginx'].find(existsSync) ?? 'nginx';
    const child = spawn(program, ['-p', folder, '-c', file], { stdio: 'inherit' });
    const nginx = new Nginx(child, `https://127.0.0.1:${port}`);
    await until(
      'nginx',
      () => get(`${nginx.url}/health`).then(({ status }) => status, String),
      (status) => status === 200,
    );
    return nginx;
  }

  stop(): void {
    this.#process.kill('SIGTERM');
  }
}
