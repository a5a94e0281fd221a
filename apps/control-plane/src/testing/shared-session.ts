/**
 * A pooler of PostgreSQL in its most sparing form: all clients take turns on one session of the server, a
 * transaction each, as through PgBouncer in transaction mode.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** @param directory of the server's socket */
export async function sharedSession(
  directory: string,
  { user, database }: { user: string; database: string },
): Promise<AsyncDisposable & { port: number }> {
  const backend = connect(`${directory}/.s.PGSQL.5432`);
  const fromServer = messagesOf(backend);
  backend.write(startup({ user, database }));
  await untilReady(fromServer, () => {});
  let turn: Promise<unknown> = Promise.resolve();
  const clients = new Set<Socket>();
  const server = createServer((client) => {
    clients.add(client);
    client.on('error', () => {});
    void serve(client).finally(() => clients.delete(client));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.destroy();
      server.close();
      backend.destroy();
      await once(server, 'close');
    },
  };

  async function serve(client: Socket): Promise<void> {
    const messages = messagesOf(client, { untypedFirst: true });
    await messages.next();
    client.write(Buffer.concat([message('R', int32(0)), ready]));
    let unit: Buffer[] = [];
    for await (const one of messages) {
      const type = String.fromCharCode(one[0] ?? 0);
      if (type === 'X') break;
      unit.push(one);
      if (type !== 'Q' && type !== 'S') continue;
      const request = Buffer.concat(unit);
      unit = [];
      turn = turn.then(() => {
        backend.write(request);
        return untilReady(fromServer, (answer) => client.write(answer));
      });
      await turn;
    }
    client.end();
  }
}

type Messages = AsyncGenerator<Buffer, void, void>;

async function untilReady(messages: Messages, take: (one: Buffer) => void): Promise<void> {
  for (;;) {
    const { value, done } = await messages.next();
    if (done) throw new Error('the server has ended the session');
    take(value);
    if (value[0] === 'Z'.charCodeAt(0)) return;
  }
}

/** A type, its length with itself, and the rest; the first one of a client has no type. */
async function* messagesOf(socket: Socket, { untypedFirst = false } = {}): Messages {
  let bytes = Buffer.alloc(0);
  let head = untypedFirst ? 0 : 1;
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    bytes = Buffer.concat([bytes, chunk]);
    while (bytes.length >= head + 4) {
      const length = head + bytes.readInt32BE(head);
      if (bytes.length < length) break;
      yield bytes.subarray(0, length);
      bytes = bytes.subarray(length);
      head = 1;
    }
  }
}

function startup(parameters: Record<string, string>): Buffer {
  const pairs = Object.entries(parameters).map(([name, value]) => `${name}\0${value}\0`);
  const body = Buffer.concat([int32(196_608), Buffer.from(`${pairs.join('')}\0`)]);
  return Buffer.concat([int32(body.length + 4), body]);
}

function message(type: string, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body]);
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

const ready = message('Z', Buffer.from('I'));
