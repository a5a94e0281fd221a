import { expect, test } from 'vitest';
import { Hosts } from './hosts.ts';

const at = (id: string) => ({ id, socket: `/nowhere/${id}.sock` });

test('new sandboxes are made on the first host, and a host is found by its id', async () => {
  await using hosts = new Hosts([at('one'), at('two')]);
  expect(hosts.place.id).toBe('one');
  expect(hosts.all().map(({ id }) => id)).toEqual(['one', 'two']);
  for (const { id, client } of hosts.all()) expect(hosts.of(id)).toBe(client);
});

test('a host that this Perch has not is told as away', async () => {
  await using hosts = new Hosts([at('one')]);
  expect(() => hosts.of('two')).toThrow(
    expect.objectContaining({ code: 'host_unavailable', details: { host_id: 'two' } }),
  );
});
