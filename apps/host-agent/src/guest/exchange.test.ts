import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { type Answer, exchange, type Question, Unconnected } from './exchange.ts';

const head = 'HTTP/1.1 200 OK\r\n';

/** Asks a guest that does this with the connection once it was asked. */
async function ask(guest: (socket: Socket) => void, question: Partial<Question> = {}): Promise<Answer> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket.on('error', () => {}));
    socket.once('data', () => guest(socket));
  });
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  const signal = new AbortController().signal;
  return exchange('127.0.0.1', port, {
    ...{ method: 'GET', path: '/', connectMs: 30_000, answerMs: 30_000, signal },
    ...question,
  });
}

const says = (text: string) => (socket: Socket) => void socket.write(text);

test('an answer is whole by its length, by its last chunk, or by the end of the connection', async () => {
  expect(await ask(says(`${head}Content-Length: 4\r\n\r\ntrue`))).toEqual({ status: 200, text: 'true' });
  const chunks = '2\r\ntr\r\n2\r\nue\r\n0\r\n\r\n';
  expect(await ask(says(`${head}Transfer-Encoding: chunked\r\n\r\n${chunks}`))).toMatchObject({
    text: 'true',
  });
  expect(await ask((socket) => socket.end(`${head}\r\ntrue`))).toMatchObject({ text: 'true' });
  expect(await ask(says('HTTP/1.1 204 No Content\r\n\r\n'))).toEqual({ status: 204, text: '' });
});

test('what a guest is asked arrives with its body and headers', async () => {
  let asked = '';
  const server = createServer((socket) => {
    socket.on('data', (bytes) => {
      asked += bytes.toString();
      if (asked.includes('body')) socket.end('HTTP/1.1 204 No Content\r\n\r\n');
    });
  });
  onTestFinished(() => void server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  await exchange('127.0.0.1', (server.address() as AddressInfo).port, {
    ...{ method: 'POST', path: '/init', headers: { 'x-access-token': 'token' }, body: 'the body' },
    ...{ connectMs: 30_000, answerMs: 30_000, signal: new AbortController().signal },
  });
  expect(asked).toMatch(/^POST \/init HTTP\/1\.1\r\n/);
  expect(asked.toLowerCase()).toContain('\r\nx-access-token: token\r\n');
  expect(asked).toMatch(/\r\n\r\nthe body$/);
});

test.each([
  ['a head without end', `${head}X: ${'x'.repeat(5000)}`],
  ['a body that is too long', `${head}Content-Length: 5000\r\n\r\n${'x'.repeat(5000)}`],
  ['another protocol', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n'],
  ['no HTTP', '\0\r\n\r\n'],
])('a guest that answers with %s is no answer', async (_, text) => {
  await expect(ask(says(text))).rejects.toThrow(Error);
});

test('a guest that closes too early is no answer', async () => {
  await expect(ask((socket) => socket.destroy())).rejects.toThrow();
  const half = `${head}Content-Length: 4\r\n\r\ntr`;
  await expect(ask((socket) => socket.end(half))).rejects.toThrow();
});

test.each([
  ['nothing', () => {}],
  ['half a head', says(head)],
  ['half a body', says(`${head}Content-Length: 4\r\n\r\ntr`)],
])('a guest that says %s and no more is given up', async (_, guest) => {
  const gaveUp = ask(guest, { answerMs: 20 });
  await expect(gaveUp).rejects.toThrow('no answer within 20 ms');
});

test('who is not there yet is told from who was asked', async () => {
  const server = createServer();
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  const question = { method: 'GET', path: '/', connectMs: 30_000, answerMs: 30_000 } as const;
  const { signal } = new AbortController();
  await expect(exchange('127.0.0.1', port, { ...question, signal })).rejects.toThrow(Unconnected);
});

test('who has given up is told so', async () => {
  const asker = new AbortController();
  const reason = new Error('the machine has ended');
  const guest = () => asker.abort(reason);
  for (const when of ['asked', 'asking no more'])
    await expect(ask(guest, { signal: asker.signal }), when).rejects.toBe(reason);
});
