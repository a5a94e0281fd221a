/** Loop devices, on any machine that has them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { loopControl } from '@perch/node-kit';
import { describe, expect, test } from 'vitest';
import { type DeviceNumber, fileOfLoop } from './index.ts';

const makers = 3;
const each = 8;

/** Makes devices of one file as fast as it can, says which, and has them until its input ends. */
const maker = `
  import { openSync } from 'node:fs';
  import { attachLoop } from ${JSON.stringify(import.meta.resolve('./index.ts'))};
  const file = openSync(process.argv[1], 'r+');
  console.log('ready');
  await new Promise((resolve) => process.stdin.once('data', resolve));
  const options = { readOnly: false, directIo: false, name: 'perch-test' };
  const made = Array.from({ length: ${each} }, () => attachLoop(file, options).device);
  console.log(JSON.stringify(made));
  process.stdin.resume();
`;

describe.runIf(process.getuid?.() === 0 && existsSync(loopControl))('loop devices', () => {
  test('of makers that race for the free numbers are each over the file of their maker, and go with it', async () => {
    const root = mkdtempSync(join(tmpdir(), 'perch-loop-'));
    const racing = Array.from({ length: makers }, (_, i) => {
      const path = join(root, `${i}`);
      const fd = openSync(path, 'w');
      ftruncateSync(fd, 2 ** 20);
      closeSync(fd);
      const args = ['--input-type=module', '-e', maker, '--', path];
      const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      const line = async () => (await lines.next()).value ?? expect.fail('a maker ended');
      return { path, child, line };
    });
    try {
      for (const { line } of racing) expect(await line()).toBe('ready');
      for (const { child } of racing) child.stdin.write('go');
      const made = await Promise.all(
        racing.map(async ({ line }) => JSON.parse(await line()) as DeviceNumber[]),
      );
      expect(new Set(made.flat()).size).toBe(makers * each);
      for (const [i, { path }] of racing.entries()) {
        const { dev, ino } = statSync(path, { bigint: true });
        for (const device of made[i] ?? []) expect(fileOfLoop(device)).toEqual({ dev, ino });
      }
      for (const { child } of racing) child.stdin.end();
      await Promise.all(racing.map(({ child }) => once(child, 'exit')));
      await expect
        .poll(() => made.flat().map((device) => fileOfLoop(device)))
        .toEqual(made.flat().map(() => undefined));
    } finally {
      for (const { child } of racing) child.kill('SIGKILL');
      rmSync(root, { recursive: true });
    }
  });
});
