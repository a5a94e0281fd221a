import { Readable } from 'node:stream';
import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { batchBytes, inBatches } from './batches.ts';

const chunk = fc.oneof(
  fc.nat(100),
  fc.integer({ min: 60_000, max: 70_000 }),
  fc.constant(3 * batchBytes + 1),
);

property.prop([fc.array(chunk, { maxLength: 12 }), fc.option(fc.nat(3 * batchBytes), { nil: undefined })])(
  'what was given comes out, in batches of one length, whatever was expected',
  async (lengths, expected) => {
    const chunks = lengths.map((length, i) => Buffer.alloc(length, i + 1));
    const whole = Buffer.concat(chunks);
    const out: Buffer[] = [];
    for await (const batch of inBatches(Readable.from(chunks, { objectMode: false }), expected)) {
      // Those who take it reuse nothing: the memory is that of the next batch.
      out.push(Buffer.from(batch));
    }
    expect(Buffer.concat(out).equals(whole)).toBe(true);
    expect(out.slice(1, -1).every(({ length }) => length === batchBytes)).toBe(true);
  },
);

test('the memory of a chunk is given back when it was copied, but not that which others may have theirs in', async () => {
  const [large, small] = [Buffer.alloc(batchBytes), Buffer.from('small')];
  const batches = inBatches(Readable.from([large, small]));
  await batches.next();
  expect(large.buffer.detached).toBe(true);
  const { value } = await batches.next();
  expect(String(value)).toBe('small');
  expect(small.buffer.detached).toBe(false);
});

test('a source that fails is not a short file', async () => {
  const broken = new Readable({ read() {} });
  broken.push(Buffer.alloc(10));
  const batches = inBatches(broken);
  const first = batches.next();
  setImmediate(() => broken.destroy(new Error('gone')));
  await expect(first).rejects.toThrow('gone');
});

test('a source is held while its batch is not taken, and left when no more are', async () => {
  let given = 0;
  const source = new Readable({
    read() {
      given += 65_536;
      this.push(Buffer.alloc(65_536));
    },
  });
  const batches = inBatches(source);
  await batches.next();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(given).toBeLessThanOrEqual(2 * batchBytes);
  await batches.return();
  expect([source.isPaused(), source.destroyed, source.listenerCount('data')]).toEqual([true, false, 0]);
});
