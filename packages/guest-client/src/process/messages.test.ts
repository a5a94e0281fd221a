import { fc, test } from '@fast-check/vitest';
import { expect } from 'vitest';
import { parseObject } from '../connect/json.ts';
import { readMessage, readOutput } from './messages.ts';

const stream = fc.constantFrom('stdout' as const, 'stderr' as const);

test.prop([stream, fc.uint8Array({ maxLength: 200 })])(
  'output is read as the agent writes it',
  (type, bytes) => {
    const frame = `{"event":{"data":{"${type}":"${Buffer.from(bytes).toString('base64')}"}}}`;
    const read = readOutput(Buffer.from(frame));
    expect(read).toEqual({ type, data: Buffer.from(bytes) });
    expect(read).toEqual(readMessage(parseObject(Buffer.from(frame)) ?? {}));
  },
);

test.prop([stream, fc.string()])('what has another form is left to the parser of JSON', (type, text) => {
  for (const value of [JSON.stringify(`\\${text}`), `"${text}","x":"`, '1']) {
    expect(readOutput(Buffer.from(`{"event":{"data":{"${type}":${value}}}}`))).toBeUndefined();
  }
});

test.prop([fc.uint8Array({ maxLength: 60 })])('no bytes do anything but be read or left', (bytes) => {
  const read = readOutput(Buffer.from(bytes));
  expect(read === undefined || 'data' in read).toBe(true);
});
