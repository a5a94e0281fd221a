import { PassThrough } from 'node:stream';
import type { Perch } from '@perch/sdk';
import { expect, test, vi } from 'vitest';
import { createOutput } from '../output.ts';
import { feed } from './feed.ts';
import { attach } from './run.ts';
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

test.each([
  [{ stdout: true, stderr: false }, false, 'Earlier output is missing (standard output)'],
  [{ stdout: true, stderr: true }, false, 'Earlier output is missing (standard output, standard error)'],
  [{ stdout: false, stderr: false }, false, ''],
  [{ stdout: true, stderr: true }, true, ''],
])(
  'following a command with its output cut %j, with JSON %s, tells what is missing',
  async (truncated, json, told) => {
    const stream = {
      truncated,
      async *[Symbol.asyncIterator]() {},
      async [Symbol.asyncDispose]() {},
    };
    const perch = { sandboxes: { commands: { attach: async () => stream } } } as unknown as Perch;
    const written: string[] = [];
    const spy = vi
      .spyOn(process.stderr, 'write')
      .mockImplementation((text) => written.push(String(text)) > 0);
    try {
      await attach(perch, 'sb0', 7, {}, createOutput(json));
    } finally {
      spy.mockRestore();
    }
    expect(written.join('').split(':')[0]).toBe(told);
  },
);
