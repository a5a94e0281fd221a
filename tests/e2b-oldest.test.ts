/** Programs with an E2B SDK from before the second version of its calls run here, too. */
import { CommandExitError, NotFoundError, Sandbox } from 'e2b-oldest';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { asE2bKey } from '../packages/protocol/src/index.ts';
import { bootDefaultMachine } from './setup/default-machine.ts';
import { shared } from './setup/shared.ts';

const variables = { E2B_API_URL: shared.url, E2B_SANDBOX_URL: shared.url, E2B_API_KEY: asE2bKey(shared.key) };

beforeAll(async () => {
  await bootDefaultMachine();
  Object.assign(process.env, variables);
});
afterAll(() => {
  for (const name of Object.keys(variables)) delete process.env[name];
});

test('a sandbox is made, used, paused, connected to and killed by the first version of the calls', async () => {
  const label = `oldest-${process.pid}`;
  const box = await Sandbox.create({ metadata: { label }, envs: { COLOUR: 'green' }, timeoutMs: 600_000 });
  try {
    expect((await box.getInfo()).endAt.getTime() - Date.now()).toBeGreaterThan(400_000);
    const listed = await Sandbox.list({ query: { metadata: { label } } }).nextItems();
    expect(listed.map(({ sandboxId, state }) => [sandboxId, state])).toEqual([[box.sandboxId, 'running']]);
    expect((await box.commands.run('echo $COLOUR')).stdout).toBe('green\n');
    await expect(box.commands.run('exit 5')).rejects.toBeInstanceOf(CommandExitError);
    const sleeper = await box.commands.run('sleep 600', { background: true });
    await box.files.write('dir/file', 'text');
    expect((await box.files.list('dir')).map(({ path }) => path)).toEqual(['/home/user/dir/file']);
    await expect(box.files.read('none')).rejects.toBeInstanceOf(NotFoundError);
    expect(await (await fetch(await box.downloadUrl('dir/file'))).text()).toBe('text');

    await box.betaPause();
    expect(await box.isRunning()).toBe(false);
    const same = await Sandbox.connect(box.sandboxId, { timeoutMs: 600_000 });
    expect(await same.files.read('dir/file')).toBe('text');
    expect(await box.commands.kill(sleeper.pid)).toBe(true);
    await box.setTimeout(900_000);
    expect((await box.getMetrics()).length).toBe(1);
  } finally {
    expect(await box.kill()).toBe(true);
  }
  expect(await Sandbox.kill(box.sandboxId)).toBe(false);
});
