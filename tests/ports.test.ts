/** Servers in a sandbox, reached from this machine: by URL, and by ports of this machine that lead there. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PerchError } from '../packages/sdk/src/index.ts';
import { cli } from './setup/perch-instance.ts';
import { newSandbox, sharedPerch, type TestSandbox } from './setup/sandbox.ts';
import { shared } from './setup/shared.ts';

const perch = sharedPerch();
const env = { ...shared.env, PERCH_URL: shared.url };
let box: TestSandbox;

/** Says how many bytes came once its client has ended its half, and serves clients side by side. */
const counter = `
import socket, threading
def serve(client):
    size = 0
    while data := client.recv(65536):
        size += len(data)
    client.sendall(f'{size} bytes'.encode())
    client.close()
listener = socket.create_server(('', 7000))
local = socket.create_server(('127.0.0.1', 7001))
while True:
    threading.Thread(target=serve, args=listener.accept()[:1]).start()
`;

beforeAll(async () => {
  box = await newSandbox(perch);
  await perch.sandboxes.exec(box.id, {
    cmd: 'sh',
    args: ['-c', 'mkdir -p www && echo a page > www/index.html'],
  });
  await perch.sandboxes.execStream(box.id, {
    cmd: 'python3',
    args: ['-m', 'http.server', '-d', 'www', '8080'],
    detach: true,
  });
  await perch.sandboxes.execStream(box.id, { cmd: 'python3', args: ['-c', counter], detach: true });
  for (let listening: number[] = []; ![7000, 7001, 8080].every((port) => listening.includes(port)); ) {
    listening = (await perch.sandboxes.ports.list(box.id)).items.map(({ port }) => port);
  }
});
afterAll(() => box?.[Symbol.asyncDispose]());

test('the ports that programs listen on are listed with their URLs, and those of the loopback without', async () => {
  const { items } = await perch.sandboxes.ports.list(box.id);
  const found = new Map(items.map((one) => [one.port, one]));
  expect(found.get(8080)).toMatchObject({
    addresses: ['0.0.0.0'],
    url: expect.stringContaining(`8080-${box.id}.`),
  });
  expect(found.get(7001)).toEqual({ port: 7001, addresses: ['127.0.0.1'], url: null });
  expect(found.has(49983)).toBe(false);
  const { stdout } = await promisify(execFile)(process.execPath, [cli, 'url', box.id], { env });
  expect(stdout).toMatch(/8080 +0\.0\.0\.0 +http:/);
});

test('the URL of a port leads there, with the header that it is told with', async () => {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [cli, 'url', box.id, '8080'], {
    env,
  });
  const header = stderr.replace('Requests need a header: ', '').trim();
  const curl = (...args: string[]) => promisify(execFile)('curl', ['-sS', ...args, stdout.trim()]);
  expect((await curl('-H', header)).stdout).toBe('a page\n');
  expect(JSON.parse((await curl()).stdout).code).toBe(403);
});

/** A `perch forward` that listens. */
async function forwarded(...ports: string[]) {
  const child = spawn(process.execPath, [cli, 'forward', '--json', box.id, ...ports], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const addresses: string[] = [];
  const errors = text(child.stderr);
  for await (const line of createInterface(child.stdout)) {
    addresses.push((JSON.parse(line) as { address: string }).address);
    if (addresses.length === ports.length) break;
  }
  return {
    addresses,
    errors,
    async stop(): Promise<number | null> {
      child.kill('SIGINT');
      return child.exitCode ?? ((await once(child, 'exit')) as [number | null])[0];
    },
  };
}

test('perch forward leads connections to a port, many at once, until Ctrl-C', async () => {
  const one = await forwarded('0:8080', '0:7000');
  const [web, count] = one.addresses;
  const pages = await Promise.all(
    Array.from({ length: 8 }, async () => (await fetch(`http://${web}/`)).text()),
  );
  expect(pages).toEqual(Array.from({ length: 8 }, () => 'a page\n'));
  // The program answers after its client has ended its half.
  const port = Number(count?.split(':')[1]);
  const sizes = await Promise.all(
    [0, 1, 3_000_000].map(async (size) => {
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      socket.end(Buffer.alloc(size, 7));
      return text(socket);
    }),
  );
  expect(sizes).toEqual(['0 bytes', '1 bytes', '3000000 bytes']);
  const open = connect({ port, host: '127.0.0.1' }).on('error', () => {});
  await once(open, 'connect');
  const closed = once(open, 'close');
  expect(await one.stop()).toBe(0);
  await closed;
  expect(await one.errors).toBe('');
});

test('perch forward tells of a port where nothing listens, and goes on', async () => {
  const one = await forwarded('0:9', '0:8080');
  const [closedPort, web] = one.addresses;
  await expect(fetch(`http://${closedPort}/`)).rejects.toThrow();
  expect(await (await fetch(`http://${web}/`)).text()).toBe('a page\n');
  expect(await one.stop()).toBe(0);
  expect(await one.errors).toContain('port_closed');
});

test('a connection by the SDK is ended by halves, and the loopback of a guest is closed', async () => {
  await using stream = await perch.sandboxes.ports.connect(box.id, 7000);
  await stream.write(new TextEncoder().encode('four'));
  await stream.end();
  expect(await text(stream)).toBe('4 bytes');
  const refused = await perch.sandboxes.ports.connect(box.id, 7001).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(PerchError);
  expect(refused).toMatchObject({ code: 'port_closed' });
});
