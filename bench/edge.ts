/** A port of a sandbox through the edge, against the same straight to the guest: time of a request, bytes, WebSockets. */
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { guestPort } from '../apps/host-agent/src/guest/index.ts';
import { accessTo } from './access.ts';
import type { Measure } from './bench.ts';
import { EdgePeer } from './edge-peer.ts';
import { inTurn, type Sample, timed } from './in-turn.ts';
import { cpuTimeOf, memoryOf } from './processes.ts';

const bytes = 64 * 2 ** 20;
const sockets = 2000;
const opensAtOnce = 50;
const settleMs = 5_000;
const requests = { n: 1000, warmUp: 200 };

export const edge: Measure = async ({ instance, sandbox, atMost, signal, progress }) => {
  const { perch } = instance;
  const { address } = await accessTo(instance, sandbox);
  const { hostname, port } = new URL(instance.url);
  const through = { host: hostname, port: Number(port) };
  const { traffic_token: token } = await perch.sandboxes.ports.list(sandbox);
  const to = (at: number) => ({
    ...{ 'e2b-sandbox-id': sandbox, 'e2b-sandbox-port': String(at) },
    ...(token === null ? {} : { 'e2b-traffic-access-token': token }),
  });

  progress('a request through the edge, against one straight to the guest agent');
  using byEdge = new Kept(through, to(guestPort));
  using direct = new Kept({ host: address, port: guestPort }, {});
  const perchd = instance.pid('perchd');
  const cpuBefore = cpuTimeOf(perchd);
  const asked = await inTurn(
    { edge: () => timed(() => byEdge.ask('/health')), direct: () => timed(() => direct.ask('/health')) },
    { ...requests, signal },
  );
  const cpu = (cpuTimeOf(perchd) - cpuBefore) / (requests.n + requests.warmUp);

  await using peer = await EdgePeer.start(perch, sandbox);
  const rate =
    (at: { host: string; port: number }, method: 'GET' | 'PUT', headers: object): Sample =>
    async () =>
      bytes / 1e3 / (await timed(() => transfer(at, method, headers)));
  const straight = { host: address, port: peer.bytesPort };
  const turns = { n: Math.min(10, atMost), warmUp: 1, signal };
  progress('64 MiB from a program, against plain TCP');
  const down = await inTurn(
    { edge: rate(through, 'GET', to(peer.bytesPort)), direct: rate(straight, 'GET', {}) },
    turns,
  );
  progress('64 MiB to a program, against plain TCP');
  const up = await inTurn(
    { edge: rate(through, 'PUT', to(peer.bytesPort)), direct: rate(straight, 'PUT', {}) },
    turns,
  );

  progress(`${sockets} idle WebSockets`);
  const rss = () => memoryOf(perchd).rss / 1e6;
  await sleep(settleMs);
  const before = rss();
  const open = await openAll(() => upgrade(through, to(peer.socketsPort)), signal);
  await sleep(settleMs);
  const held = rss() - before;
  for (const socket of open) socket.destroy();
  return [
    {
      name: 'a request of the guest agent by the edge',
      unit: 'ms',
      samples: asked.edge,
      floor: asked.direct,
    },
    {
      ...{ name: 'a request: what the edge adds', unit: 'ms' },
      ...{ samples: asked.edge.map((ms, at) => ms - (asked.direct[at] ?? 0)), targets: { p50: 1, p99: 3 } },
    },
    { name: 'a request by the edge: CPU time of perchd', unit: 'ms', samples: [cpu] },
    {
      ...{ name: '64 MiB from a program, against plain TCP', unit: 'MB/s' },
      ...{ samples: down.edge, floor: down.direct, targets: { ratio_p50: 0.6 } },
    },
    {
      ...{ name: '64 MiB to a program, against plain TCP', unit: 'MB/s' },
      ...{ samples: up.edge, floor: up.direct, targets: { ratio_p50: 0.6 } },
    },
    {
      ...{ name: `${sockets} idle WebSockets: memory of perchd (RSS)`, unit: 'MB' },
      ...{ samples: [held], targets: { p50: 40 } },
    },
  ];
};

/** Requests on one connection that is kept. */
class Kept implements Disposable {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #at: object;

  constructor(at: { host: string; port: number }, headers: Record<string, string>) {
    this.#at = { ...at, headers, agent: this.#agent };
  }

  ask(path: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const asked = request({ ...this.#at, path }, (answer) => {
        if (answer.statusCode !== 204) reject(new Error(`${path} answered ${answer.statusCode}.`));
        answer.resume().once('error', reject).once('end', resolve);
      });
      asked.once('error', reject).end();
    });
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }
}

function headOf(method: string, path: string, headers: object): string {
  const lines = Object.entries({ host: 'bench', ...headers }).map(([name, value]) => `${name}: ${value}`);
  return `${[`${method} ${path} HTTP/1.1`, ...lines].join('\r\n')}\r\n\r\n`;
}

/** The same bytes of HTTP, whoever is at the other end. Resolves when all of them have come, or were taken. */
async function transfer(at: { host: string; port: number }, method: 'GET' | 'PUT', headers: object) {
  const socket = connect({ ...at, noDelay: true });
  const length = method === 'PUT' ? { 'content-length': bytes } : {};
  socket.write(headOf(method, `/${bytes}`, { ...headers, ...length, connection: 'close' }));
  if (method === 'PUT') socket.write(Buffer.alloc(bytes));
  let received = 0;
  let status = '';
  socket.on('data', (chunk: Buffer) => {
    if (received === 0) status = chunk.toString('latin1', 9, 12);
    received += chunk.length;
  });
  await once(socket, 'end');
  socket.destroy();
  if (status !== '200' || (method === 'GET' && received < bytes)) {
    throw new Error(`${method} was answered ${status} with ${received} bytes.`);
  }
}

async function upgrade(at: { host: string; port: number }, headers: object): Promise<Socket> {
  const socket = connect({ ...at, noDelay: true });
  const key = Buffer.alloc(16).toString('base64');
  const asked = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': 13,
    'sec-websocket-key': key,
  };
  socket.write(headOf('GET', '/', { ...headers, ...asked }));
  const [answer] = (await once(socket, 'data')) as [Buffer];
  if (!answer.toString('latin1').startsWith('HTTP/1.1 101 ')) throw new Error(`Refused: ${answer}`);
  return socket.on('error', () => {});
}

async function openAll(open: () => Promise<Socket>, signal: AbortSignal): Promise<Socket[]> {
  const all: Socket[] = [];
  while (all.length < sockets) {
    signal.throwIfAborted();
    all.push(...(await Promise.all(Array.from({ length: opensAtOnce }, open))));
  }
  return all;
}
