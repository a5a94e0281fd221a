import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { feed } from './feed.ts';
import { forwardSignals } from './signals.ts';

test('all of the input goes to the command, and then its end', async () => {
  const input = new PassThrough();
  const sent: string[] = [];
  const feeding = feed(input, {
    write: async (data) => void sent.push(Buffer.from(data as Uint8Array).toString()),
    closeStdin: async () => void sent.push('end'),
  });
  input.write('a');
  input.end('b');
  await feeding;
  expect(sent.join('')).toBe('abend');
});

test('signals go to the command, and the third interrupt kills it', () => {
  const sent: string[] = [];
  const before = process.listenerCount('SIGINT');
  {
    using _ = forwardSignals({
      signal: async (name) => void sent.push(name),
      stop: async () => void sent.push('stop'),
    });
    for (const name of ['SIGTERM', 'SIGINT', 'SIGINT', 'SIGINT'] as const) process.emit(name);
  }
  expect(sent).toEqual(['SIGTERM', 'SIGINT', 'SIGINT', 'stop']);
  expect(process.listenerCount('SIGINT')).toBe(before);
});
