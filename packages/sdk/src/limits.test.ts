import type { ServerResponse } from 'node:http';
import { Agent, getGlobalDispatcher, setGlobalDispatcher } from 'undici';
import { expect, test } from 'vitest';
import { Perch } from './index.ts';
import { fakeServer, json } from './testing/fake-server.ts';

/** Shortens the limits that fetch has by itself in Node, for whoever does not name others. */
function shortLimits(): Disposable {
  const before = getGlobalDispatcher();
  setGlobalDispatcher(new Agent({ headersTimeout: 200, bodyTimeout: 200 }));
  return { [Symbol.dispose]: () => setGlobalDispatcher(before) };
}

/** Resolves when a request that began now has met the limits of fetch. */
async function limitsHavePassed(url: string): Promise<void> {
  await expect(fetch(`${url}/held`)).rejects.toMatchObject({ cause: { code: 'UND_ERR_HEADERS_TIMEOUT' } });
}

test('a command may take as long as was asked for, whatever limits fetch has by itself', async () => {
  using _ = shortLimits();
  const asked = Promise.withResolvers<ServerResponse>();
  await using server = await fakeServer((request, response) => {
    if (request.url !== '/held') asked.resolve(response);
  });
  const { sandboxes } = new Perch({ url: server.url, apiKey: 'perch_x' });
  const running = sandboxes.exec('sb0', { cmd: 'sleep', timeout_sec: 600 });
  running.catch(() => {});
  const response = await asked.promise;
  await limitsHavePassed(server.url);
  json(response, 200, { exit_code: 0 });
  expect(await running).toEqual({ exit_code: 0 });
});

test('so may a file that comes slowly', async () => {
  using _ = shortLimits();
  const asked = Promise.withResolvers<ServerResponse>();
  await using server = await fakeServer((request, response) => {
    if (request.url === '/held') return;
    response.writeHead(200, { 'content-length': '2' });
    response.write('a');
    asked.resolve(response);
  });
  const { files } = new Perch({ url: server.url, apiKey: 'perch_x' }).sandboxes;
  const reading = files.readText('sb0', 'slow');
  reading.catch(() => {});
  const response = await asked.promise;
  await limitsHavePassed(server.url);
  response.end('b');
  expect(await reading).toBe('ab');
});

test('the limit that was asked for holds for all of an answer', async () => {
  await using server = await fakeServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.write('{');
  });
  const perch = new Perch({ url: server.url, apiKey: 'perch_x', timeoutMs: 200 });
  await expect(perch.templates.list()).rejects.toThrow('TIMEOUT');
});
