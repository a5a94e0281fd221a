import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

type Answer = [status: number, body: unknown];

export const health: Answer = [200, { status: 'ok', version: '1.2.3', problems: [] }];
export const refused: Answer = [
  401,
  { error: { code: 'unauthorized', message: 'The API key is not valid.', remedy: 'x', details: {} } },
];

/** The answers of a Perch, by path. */
export async function served(answers: Record<string, Answer>) {
  const server = createServer((request, response) => {
    const [status, body] = answers[request.url ?? ''] ?? [404, {}];
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    [Symbol.dispose]: () => {
      server.close().closeAllConnections();
    },
  };
}
