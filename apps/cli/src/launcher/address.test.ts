import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { healthy, requireFreeAddress } from './address.ts';

/** Answers everything with this. */
async function listening(answer: unknown): Promise<{ address: string } & AsyncDisposable> {
  const server = createServer((_request, response) => response.end(JSON.stringify(answer)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    address: `127.0.0.1:${port}`,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

test.each([
  [true, { status: 'ok', problems: [] }],
  [true, { status: 'full', problems: ['the host has too little memory for another sandbox'] }],
  [false, { status: 'unavailable', problems: ['the database does not answer'] }],
  [false, { error: { code: 'host_unavailable', message: 'The host agent does not answer.' } }],
  [false, {}],
])('it is %s that Perch is well when it says %j', async (well, answer) => {
  await using server = await listening(answer);
  expect(await healthy(server.address)).toBe(well);
});

test('an address where somebody listens is refused, and so is one that is none', async () => {
  const { address } = await (async () => {
    await using server = await listening({});
    await expect(requireFreeAddress(server.address)).rejects.toThrow(`${server.address} is in use`);
    return server;
  })();
  expect(await healthy(address)).toBe(false);
  await requireFreeAddress(address);
  for (const none of ['localhost', '127.0.0.1:', ':7070']) {
    await expect(requireFreeAddress(none)).rejects.toThrow(`PERCH_LISTEN is ${none}.`);
  }
});
