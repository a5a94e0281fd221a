import { expect, test } from 'vitest';
import { Perch } from './index.ts';
import { fakeServer } from './testing/fake-server.ts';

test('the limit that was asked for holds for all of an answer', async () => {
  await using server = await fakeServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.write('{');
  });
  const perch = new Perch({ url: server.url, apiKey: 'perch_x', timeoutMs: 200 });
  await expect(perch.templates.list()).rejects.toThrow('TIMEOUT');
});
