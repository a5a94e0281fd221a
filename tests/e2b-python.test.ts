/** Programs written with E2B's Python SDK, the plain one and the asynchronous one, run here by its variables alone. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { asE2bKey } from '../packages/protocol/src/index.ts';
import { e2bPackages } from '../scripts/e2b-python.ts';
import { bootDefaultMachine } from './setup/default-machine.ts';
import { shared } from './setup/shared.ts';

beforeAll(bootDefaultMachine);

test.each(['plain', 'asynchronous'])('the %s program comes to its end', async (name) => {
  const { stdout } = await promisify(execFile)(
    'python3',
    [join(import.meta.dirname, 'e2b-python', `${name}.py`)],
    {
      env: {
        PATH: process.env.PATH,
        HOME: process.env.HOME,
        PYTHONPATH: await e2bPackages(),
        PYTHONDONTWRITEBYTECODE: '1',
        E2B_API_URL: shared.url,
        E2B_SANDBOX_URL: shared.url,
        E2B_API_KEY: asE2bKey(shared.key),
      },
    },
  );
  expect(stdout).toBe('done\n');
});
