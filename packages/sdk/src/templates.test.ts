import { expect, test } from 'vitest';
import { Perch } from './index.ts';
import { fakeServer, json } from './testing/fake-server.ts';

const apiKey = `perch_${'0'.repeat(40)}`;

test('the number of ready guests of a template is set, and all are listed', async () => {
  const guests = { template: 'mine', ready: 0, wanted: 4, pinned: 4 };
  await using server = await fakeServer((request, response) =>
    json(response, 200, request.method === 'GET' ? { items: [guests] } : guests),
  );
  const { templates } = new Perch({ url: server.url, apiKey });
  expect(await templates.pinReady('mine', { count: 4, memory_mb: 256 })).toEqual(guests);
  expect(await templates.ready()).toEqual([guests]);
  expect(server.requests.map(({ method, url }) => `${method} ${url}`)).toEqual([
    'POST /v1/templates/mine/ready',
    'GET /v1/ready',
  ]);
});
