import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Perch } from '@perch/sdk';
import { expect, test } from 'vitest';
import { forward } from './forward.ts';

test('a peer that takes its time gets all, however often it is waited for', async () => {
  const chunk = Buffer.alloc(1024 * 1024);
  const count = 24;
  const stream = {
    async *[Symbol.asyncIterator]() {
      for (let at = 0; at < count; at++) yield chunk;
    },
    async write() {},
    async end() {},
    close() {},
  };
  const perch = { sandboxes: { ports: { connect: async () => stream } } } as unknown as Perch;
  const warnings: string[] = [];
  const warned = ({ name }: Error) => void warnings.push(name);
  process.on('warning', warned);
  await using way = await forward(perch, 'sb0', { local: 0, port: 80 }, '127.0.0.1', (error) => {
    throw error;
  });
  const socket = connect(Number(way.address.split(':')[1]), '127.0.0.1');
  let size = 0;
  for await (const { length } of socket as AsyncIterable<Buffer>) {
    size += length;
    await sleep(1);
  }
  process.off('warning', warned);
  expect([size, warnings]).toEqual([count * chunk.length, []]);
});
