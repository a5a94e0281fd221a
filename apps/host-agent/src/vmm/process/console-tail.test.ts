import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { expect } from 'vitest';
import { ConsoleTail } from './console-tail.ts';

property.prop([fc.array(fc.uint8Array({ maxLength: 30 })), fc.integer({ min: 1, max: 50 })])(
  'a console keeps the last bytes, and no more than its limit',
  (chunks, limit) => {
    const tail = new ConsoleTail(limit);
    for (const chunk of chunks) tail.append(Buffer.from(chunk));
    expect(tail.last()).toEqual(Buffer.concat(chunks).subarray(-limit));
  },
);
