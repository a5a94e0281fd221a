import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { fc, test } from '@fast-check/vitest';
import { request } from 'undici';
import { expect } from 'vitest';
import { chunksOf } from './chunks.ts';

/** An answer of these pieces, as chunks of HTTP. */
async function answerOf(pieces: readonly Buffer[]) {
  const server = createServer((_request, response) => {
    Readable.from(pieces).pipe(response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { body } = await request(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const end = async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  };
  return { body, [Symbol.asyncDispose]: end };
}

const lengths = fc.array(fc.oneof(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 300_000 })), {
  maxLength: 12,
});

test.prop([lengths, fc.boolean()], { numRuns: 30 })(
  'an answer is whole, whatever its pieces and however slow its reader',
  async (lengths, slow) => {
    const pieces = lengths.map((length) => randomBytes(length));
    await using answer = await answerOf(pieces);
    const copies: Buffer[] = [];
    for await (const chunk of chunksOf(answer.body)) {
      if (slow) await turn();
      copies.push(Buffer.from(chunk));
    }
    expect(Buffer.concat(copies).equals(Buffer.concat(pieces))).toBe(true);
  },
);

test('what was read from a connection is given back when the next part is of another read', async () => {
  await using answer = await answerOf([randomBytes(5_000_000)]);
  const reads = new Set<ArrayBufferLike>();
  for await (const chunk of chunksOf(answer.body)) {
    reads.add(chunk.buffer);
    const kept = [...reads].filter((read) => !(read as ArrayBuffer).detached);
    expect(kept).toEqual([chunk.buffer]);
  }
  expect(reads.size).toBeGreaterThan(5);
});

test('a connection that breaks off is an error', async () => {
  await using answer = await answerOf([randomBytes(20_000_000)]);
  const broken = new Error('broken');
  const reading = (async () => {
    for await (const _ of chunksOf(answer.body)) answer.body.destroy(broken);
  })();
  await expect(reading).rejects.toBe(broken);
});

test('memory that Node shares out is nobody’s to give back', async () => {
  const [first, second] = [Buffer.from('first'), Buffer.alloc(20_000, 2)];
  const body = Readable.from([first, second], { objectMode: false });
  for await (const _ of chunksOf(body)) await turn();
  expect(first.toString()).toBe('first');
});
