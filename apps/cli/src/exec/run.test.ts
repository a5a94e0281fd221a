import { PassThrough } from 'node:stream';
import { PerchError } from '@perch/protocol';
import { ConnectionError, type Perch } from '@perch/sdk';
import { expect, test, vi } from 'vitest';
import { createOutput } from '../output.ts';
import { feed } from './feed.ts';
import { attach, runCommand } from './run.ts';
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
      close() {},
    };
    const perch = { sandboxes: { commands: { attach: async () => stream } } } as unknown as Perch;
    const written = await toldBy(() => attach(perch, 'sb0', 7, {}, createOutput(json)));
    expect(written.split(':')[0]).toBe(told);
  },
);

async function toldBy(work: () => Promise<unknown>): Promise<string> {
  const written: string[] = [];
  const spy = vi.spyOn(process.stderr, 'write').mockImplementation((text) => written.push(String(text)) > 0);
  try {
    await work();
  } finally {
    spy.mockRestore();
  }
  return written.join('');
}

const stopped = (status: string) =>
  new PerchError('sandbox_not_running', `Sandbox sb0 is ${status}.`, { id: 'sb0', status });
const restarts = new PerchError('shutting_down', 'perchd is shutting down.', {});
const broken = new ConnectionError('http://perch', {
  message: 'It broke.',
  remedy: 'Try again.',
  sent: true,
});
test.each([
  ['paused', stopped('paused'), /goes on.*`perch resume sb0`, then `perch attach sb0 7`/],
  ['resumed meanwhile', stopped('resuming'), /goes on.*`perch resume sb0`, then `perch attach sb0 7`/],
  ['under a perchd that restarts', restarts, /runs on; `perch attach sb0 7`/],
  ['cut off', broken, /may run on; `perch attach sb0 7`/],
  ['destroyed', stopped('destroying'), /^(?:(?!attach).)*$/s],
])('a stream that ends since the sandbox is %s tells what becomes of the command', async (_, error, told) => {
  const stream = {
    ...{ pid: 7, truncated: { stdout: false, stderr: false }, close() {} },
    [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(error) }),
  };
  const opened = { execStream: async () => stream, commands: { attach: async () => stream } };
  const perch = { sandboxes: opened } as unknown as Perch;
  const command = { cmd: 'make', args: [] };
  const output = createOutput(false);
  expect(await toldBy(() => runCommand(perch, 'sb0', command, { stdin: false }, output))).toMatch(told);
  expect(await toldBy(() => attach(perch, 'sb0', 7, {}, output))).toMatch(told);
});
