/** Ports of a sandbox by `/v1`. Its programs are servers of this machine. */
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Sandbox, SandboxPorts } from '@perch/protocol';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { eventually, standsStill, TestPlane } from '../testing/index.ts';

let plane: TestPlane;
let box: Sandbox;
beforeAll(async () => {
  plane = await TestPlane.start({ PERCH_DOMAIN: 'sbx.test' });
}, 60_000);
afterAll(() => plane[Symbol.asyncDispose]());
beforeEach(async () => {
  box = await plane.create();
});

describe('the list', () => {
  const line = (address: string, port: number) =>
    `  0: ${address}:${port.toString(16).toUpperCase().padStart(4, '0')} 00000000:0000 0A 0 0 0\n`;
  const listens = async (tcp: string, tcp6?: string) => {
    const folder = join(plane.dir, box.id, 'proc/net');
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'tcp'), tcp);
    if (tcp6 !== undefined) await writeFile(join(folder, 'tcp6'), tcp6);
  };
  const list = async (query = '') => {
    const answer = await plane.fetch(`/v1/sandboxes/${box.id}/ports${query}`);
    expect(answer.status).toBe(200);
    return (await answer.json()) as SandboxPorts;
  };
  const at = (port: number | string) => `http://${port}-${box.id}.sbx.test:${new URL(plane.url).port}/`;

  test('has each port once, with its addresses and its URL, and not that of the guest agent', async () => {
    await listens(
      line('00000000', 8080) + line('0100007F', 5432) + line('00000000', 49983),
      line('0'.repeat(32), 8080),
    );
    expect(await list()).toEqual({
      items: [
        { port: 5432, addresses: ['127.0.0.1'], url: null },
        { port: 8080, addresses: ['0.0.0.0', '::'], url: at(8080) },
      ],
      next_cursor: null,
      url_pattern: at('{port}'),
      traffic_token: expect.stringMatching(/./),
    });
  });

  test('has the URLs by which clients find a Perch behind a proxy, and so has the API of E2B', async () => {
    await using other = await TestPlane.start({
      ...{ PERCH_PUBLIC_URL: 'https://Sbx.test:8443/', PERCH_DOMAIN: 'inner.test' },
    });
    const { id } = await other.create();
    const answer = await other.fetch(`/v1/sandboxes/${id}/ports`);
    expect(await answer.json()).toMatchObject({ url_pattern: `https://{port}-${id}.sbx.test:8443/` });
    const detail = await other.fetch(`/sandboxes/${id}`, { headers: { host: 'inner.test' } });
    expect(await detail.json()).toMatchObject({ domain: 'sbx.test:8443' });
  });

  test('comes in pages, and is empty where nothing listens', async () => {
    await listens('nonsense');
    expect((await list()).items).toEqual([]);
    await listens([1, 2, 3].map((port) => line('00000000', port)).join(''));
    const first = await list('?limit=2');
    expect([first.items.map(({ port }) => port), first.next_cursor]).toEqual([[1, 2], '2']);
    const rest = await list('?limit=2&cursor=2');
    expect([rest.items.map(({ port }) => port), rest.next_cursor]).toEqual([[3], null]);
  });

  test.each(['?limit=0', '?limit=x', '?cursor=a', '?cursor=-1', '?other=1'])('refuses %s', async (query) => {
    expect((await plane.fetch(`/v1/sandboxes/${box.id}/ports${query}`)).status).toBe(400);
  });

  test('of a sandbox that is paused or not there is refused', async () => {
    const paused = await plane.paused();
    expect((await plane.fetch(`/v1/sandboxes/${paused.id}/ports`)).status).toBe(409);
    expect((await plane.fetch('/v1/sandboxes/none/ports')).status).toBe(404);
  });
});

/** A program of the guest that speaks TCP. */
async function program(serve: (socket: Socket) => void) {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket.on('error', () => {}));
    serve(socket);
  });
  server.listen(0, '0.0.0.0');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

class Client {
  readonly socket: WebSocket;
  /** Texts as they are, and bytes put together between them. */
  readonly heard: (string | Buffer)[] = [];
  readonly closed: Promise<[number, Buffer]>;

  constructor(port: number | string, id = box.id, key = plane.key) {
    const url = `${plane.url.replace('http', 'ws')}/v1/sandboxes/${id}/ports/${port}/stream`;
    this.socket = new WebSocket(url, { headers: { 'x-api-key': key } });
    this.closed = once(this.socket, 'close') as never;
    this.closed.catch(() => {});
    this.socket.on('message', (data: Buffer, isBinary) => {
      const last = this.heard.at(-1);
      if (!isBinary) this.heard.push(data.toString());
      else if (Buffer.isBuffer(last)) this.heard[this.heard.length - 1] = Buffer.concat([last, data]);
      else this.heard.push(data);
    });
  }

  async start(): Promise<this> {
    await eventually(() => this.heard[0] === '{"type":"start"}');
    return this;
  }

  async refusal(): Promise<[number | undefined, string]> {
    const [, answer] = (await once(this.socket, 'unexpected-response')) as [unknown, IncomingMessage];
    let body = '';
    for await (const chunk of answer) body += chunk;
    return [answer.statusCode, JSON.parse(body).error.code];
  }

  get error(): string | undefined {
    const last = this.heard.findLast((one) => typeof one === 'string');
    return typeof last === 'string' ? JSON.parse(last).error?.code : undefined;
  }
}

const end = '{"type":"end"}';

describe('a connection to a port', () => {
  test('carries bytes both ways, whatever they are', async () => {
    await using echo = await program((socket) => socket.pipe(socket));
    const client = await new Client(echo.port).start();
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, at) => at));
    client.socket.send(bytes);
    await eventually(() => Buffer.isBuffer(client.heard[1]) && client.heard[1].equals(bytes));
    client.socket.send(end);
    expect((await client.closed)[0]).toBe(1000);
    expect(client.heard.at(-1)).toBe(end);
  });

  test('is ended by halves, by either end first', async () => {
    await using late = await program((socket) => {
      socket.on('end', () => socket.end('after your end')).resume();
    });
    const one = await new Client(late.port).start();
    one.socket.send(end);
    await one.closed;
    expect(one.heard.slice(1)).toEqual([Buffer.from('after your end'), end]);

    const got = Promise.withResolvers<string>();
    await using early = await program((socket) => {
      socket.end('before');
      socket.once('data', (chunk: Buffer) => got.resolve(chunk.toString()));
    });
    const other = await new Client(early.port).start();
    await eventually(() => other.heard.at(-1) === end);
    other.socket.send(Buffer.from('still'));
    expect(await got.promise).toBe('still');
    other.socket.send(end);
    expect((await other.closed)[0]).toBe(1000);
  });

  test('brings a program that reads slowly all that its client sent, though it has ended its own half', async () => {
    const got = Promise.withResolvers<number>();
    await using slow = await program((socket) => {
      socket.end();
      let size = 0;
      const read = async () => {
        for await (const chunk of socket) {
          size += chunk.length;
          await new Promise((resolve) => setTimeout(resolve, 4));
        }
        got.resolve(size);
      };
      read().catch(got.reject);
    });
    const client = await new Client(slow.port).start();
    await eventually(() => client.heard.at(-1) === end);
    // More than the system takes at once, and its end right behind.
    const sent = 15 * 1024 * 1024;
    client.socket.send(Buffer.alloc(sent));
    client.socket.send(end);
    client.socket.close();
    expect(await got.promise).toBe(sent);
  });

  test('to a port where nothing listens says so', async () => {
    const gone = await program(() => {});
    await gone[Symbol.asyncDispose]();
    const client = new Client(gone.port);
    expect((await client.closed)[0]).toBe(1011);
    expect(client.error).toBe('port_closed');
  });

  test('that its program resets is told from one that it ends', async () => {
    await using broken = await program((socket) => socket.resetAndDestroy());
    const client = new Client(broken.port);
    await client.closed;
    expect(client.error).toBe('guest_unavailable');
  });

  test('whose client goes away ends at its program', async () => {
    const ended = Promise.withResolvers<void>();
    await using waiting = await program((socket) => socket.on('close', ended.resolve).resume());
    const client = await new Client(waiting.port).start();
    client.socket.terminate();
    await ended.promise;
  });

  test('ends with an error at a pause', async () => {
    await using waiting = await program((socket) => socket.resume());
    const client = await new Client(waiting.port).start();
    await plane.transition(box.id, 'pause');
    await client.closed;
    expect(client.error).toBe('sandbox_not_running');
  });

  test('holds back a program whose client never reads, and a client whose program never does', async () => {
    let written = 0;
    await using fast = await program((socket) => {
      const write = () => {
        for (let more = true; more; written += 65_536) more = socket.write(Buffer.alloc(65_536));
      };
      socket.on('drain', write).resume();
      write();
    });
    const reader = await new Client(fast.port).start();
    reader.socket.pause();
    await standsStill(() => written);
    expect(written).toBeLessThan(64 * 1024 * 1024);
    reader.socket.terminate();

    await using slow = await program((socket) => socket.pause());
    const writer = await new Client(slow.port).start();
    for (let at = 0; at < 256; at++) writer.socket.send(Buffer.alloc(262_144));
    await standsStill(() => writer.socket.bufferedAmount);
    expect(writer.socket.bufferedAmount).toBeGreaterThan(16 * 1024 * 1024);
    writer.socket.terminate();
  });

  test('refuses what is no message of its own', async () => {
    await using waiting = await program((socket) => socket.resume());
    for (const messages of ['{"type":"other"}', '', [end, Buffer.from('more')]]) {
      const client = await new Client(waiting.port).start();
      for (const message of [messages].flat()) client.socket.send(message);
      expect((await client.closed)[0]).toBe(1008);
      expect(client.error).toBe('validation_failed');
    }
  });

  test.each([0, 65_536, 'x', '1e3', 49_983])('is refused to %s', async (port) => {
    expect(await new Client(port).refusal()).toEqual([400, 'validation_failed']);
  });

  test('is for those with a key, and to a sandbox that is there', async () => {
    expect((await new Client(80, box.id, `perch_${'0'.repeat(40)}`).refusal())[0]).toBe(401);
    expect(await new Client(80, 'none').refusal()).toEqual([404, 'sandbox_not_found']);
    const plain = await plane.fetch(`/v1/sandboxes/${box.id}/ports/80/stream`);
    expect(plain.status).toBe(400);
  });
});
