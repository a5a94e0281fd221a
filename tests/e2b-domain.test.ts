/** Programs written with E2B's SDKs run here by E2B_DOMAIN alone: names, TLS and HTTP/2. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { e2bPackages } from '../scripts/e2b-python.ts';
import { bootDefaultMachine } from './setup/default-machine.ts';
import { type Domain, startDomain } from './setup/domain.ts';
import { newSandbox, sharedPerch } from './setup/sandbox.ts';

let domain: Domain;
beforeAll(async () => {
  await bootDefaultMachine();
  domain = await startDomain();
});
afterAll(() => domain?.[Symbol.asyncDispose]());

test('a program in JavaScript comes to its end', async () => {
  const program = join(import.meta.dirname, 'e2b-domain/program.ts');
  expect(await domain.run(process.execPath, [program])).toBe('done\n');
});

test('a program uses a dozen sandboxes at once', async () => {
  const perch = sharedPerch();
  const template = `small-${process.pid}`;
  await using small = await newSandbox(perch, { memory_mb: 128, disk_mb: 1024 });
  await perch.snapshots.create({ sandbox_id: small.id, name: template });
  const program = join(import.meta.dirname, 'e2b-domain/dozen.ts');
  expect(await domain.run(process.execPath, [program, template])).toBe('done\n');
  await perch.snapshots.delete(template);
}, 600_000);

test.each(['plain', 'asynchronous'])('the %s program in Python comes to its end', async (name) => {
  const said = await domain.run('python3', [join(import.meta.dirname, 'e2b-python', `${name}.py`)], {
    PYTHONPATH: await e2bPackages(),
    PYTHONDONTWRITEBYTECODE: '1',
    // An interpreter that a signal ends says where.
    PYTHONFAULTHANDLER: '1',
  });
  expect(said).toBe('done\n');
});

test('curl speaks HTTP/2 with the API, and trusts what it is told to trust', async () => {
  const { E2B_DOMAIN, NODE_EXTRA_CA_CERTS: ca } = domain.variables;
  const curl = (...args: string[]) =>
    domain.run('curl', ['-sS', '-w', ' %{http_version}', ...args, `https://api.${E2B_DOMAIN}/health`]);
  expect(await curl('--cacert', ca)).toMatch(/"status":"ok".* 2$/);
  expect(await curl('--cacert', ca, '--http1.1')).toMatch(/"status":"ok".* 1\.1$/);
  await expect(curl('--cacert', '/dev/null')).rejects.toThrow(/certificate/);
});
