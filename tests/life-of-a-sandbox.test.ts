import { expect, test } from 'vitest';
import { newSandbox, sh, sharedPerch } from './setup/sandbox.ts';

const perch = sharedPerch();

test('a sandbox is a machine of its own that runs Python, Node and git as an ordinary user', async () => {
  await using sandbox = await newSandbox(perch);
  expect(sandbox).toMatchObject({ status: 'running', template: 'base', vcpus: 1, memory_mb: 256 });
  expect(await sh(perch, sandbox.id, 'hostname; id -un; pwd')).toBe(`${sandbox.id}\nuser\n/home/user\n`);
  expect(await sh(perch, sandbox.id, 'python -c "print(6 * 7)"; node -e "console.log(6 * 7)"')).toBe(
    '42\n42\n',
  );
  expect(await sh(perch, sandbox.id, 'sudo id -u; git --version | cut -d" " -f1-2')).toBe('0\ngit version\n');
});
