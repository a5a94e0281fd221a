import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createNetworkLayer, findUplinkDns } from './index.ts';
import { quietLog } from './testing/log.ts';

async function files(...texts: string[]): Promise<string[]> {
  const dir = await mkdtemp(join(tmpdir(), 'perch-resolver-'));
  onTestFinished(() => rm(dir, { recursive: true }));
  return Promise.all(
    texts.map(async (text, index) => {
      const path = join(dir, String(index));
      await writeFile(path, text);
      return path;
    }),
  );
}

test.each([
  ['nameserver 192.0.2.53\n', '192.0.2.53'],
  ['# nameserver 192.0.2.1\nsearch example.com\nnameserver\t192.0.2.53 # comment\n', '192.0.2.53'],
  ['nameserver 127.0.0.53\nnameserver ::1\nnameserver fd00::1\nnameserver 192.0.2.54', '192.0.2.54'],
  ['nameserver 127.0.0.53\n', undefined],
  ['nameserver 0.0.0.0\n', undefined],
  ['nameserver 192.0.2.53;drop\n', undefined],
  ['', undefined],
])('the resolver of %j is %s', async (text, expected) => {
  expect(await findUplinkDns(await files(text))).toBe(expected);
});

test('the resolver comes from the first file that has one', async () => {
  const [one = '', two = ''] = await files('nameserver 127.0.0.53\n', 'nameserver 192.0.2.2\n');
  expect(await findUplinkDns(['/no/such/file', one, two])).toBe('192.0.2.2');
});

test.each(['dns.example', '127.0.0.1', '::1', '1.1.1.1 accept', '10.11.0.53'])(
  'the resolver %j is refused',
  (uplinkDns) => {
    const options = {
      instance: 'a',
      cidr: '10.11.0.0/16',
      poolSize: 0,
      quarantineMs: 0,
      perchUid: 1,
      log: quietLog,
    };
    expect(() => createNetworkLayer({ ...options, uplinkDns })).toThrow(/resolver|PERCH_DNS/);
  },
);
