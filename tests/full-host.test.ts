import { expect, test } from 'vitest';
import { PerchInstance } from './setup/perch-instance.ts';
import { newSandbox } from './setup/sandbox.ts';

/** Room for one of 128 MiB with its monitor, and not for two. */
const env = { PERCH_MEMORY_MB: '600' };

test('a full host says so, starts all the same, and is well again when there is room', async () => {
  await using instance = await PerchInstance.start({ network: 91, env });
  const { perch } = instance;
  const health = async () => {
    const answer = await fetch(`${instance.url}/health`);
    return [answer.status, ((await answer.json()) as { status: string }).status];
  };
  expect(await health()).toEqual([200, 'ok']);
  const sandbox = await newSandbox(perch, { memory_mb: 128, disk_mb: 1024 });
  await expect.poll(health).toEqual([503, 'full']);
  await expect(perch.sandboxes.create({ memory_mb: 128, disk_mb: 1024 })).rejects.toMatchObject({
    code: 'capacity_exhausted',
  });
  await instance.stop();
  await instance.up();
  await expect.poll(health).toEqual([503, 'full']);
  await perch.sandboxes.delete(sandbox.id);
  await expect.poll(health).toEqual([200, 'ok']);
});
