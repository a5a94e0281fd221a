import { expect, test } from 'vitest';
import { Perch } from './index.ts';
import { fakeServer, json } from './testing/fake-server.ts';

const apiKey = `perch_${'0'.repeat(40)}`;

test('all snapshots come page by page', async () => {
  await using server = await fakeServer((request, response) => {
    const cursor = new URL(request.url ?? '', 'http://x').searchParams.get('cursor');
    const items = [{ name: cursor === null ? 'a' : 'b' }];
    json(response, 200, { items, next_cursor: cursor === null ? 'next' : null });
  });
  const { snapshots } = new Perch({ url: server.url, apiKey });
  expect((await snapshots.list({ type: 'base', limit: 1 })).items).toEqual([{ name: 'a' }]);
  const all: unknown[] = [];
  for await (const one of snapshots.all({ type: 'snapshot' })) all.push(one);
  expect(all).toEqual([{ name: 'a' }, { name: 'b' }]);
  expect(server.requests.map(({ url }) => url)).toEqual([
    '/v1/snapshots?type=base&limit=1',
    '/v1/snapshots?type=snapshot&limit=100',
    '/v1/snapshots?type=snapshot&limit=100&cursor=next',
  ]);
});
