import { expect, test } from 'vitest';
import { isPerchError } from '../packages/protocol/src/index.ts';
import { eventually } from './setup/eventually.ts';
import { footprint, monitorOf, readInstance, slotNamespaces } from './setup/machine.ts';
import { newSandbox, sh, sharedPerch } from './setup/sandbox.ts';
import { shared } from './setup/shared.ts';

const perch = sharedPerch();
const { dataDir } = shared;
const instance = readInstance(dataDir);

/** The limit within which a death shows. */
const noticedMs = 2000;

async function untilFailed(id: string, ms = 30_000): Promise<string | undefined> {
  const failed = await eventually(async () => {
    const sandbox = await perch.sandboxes.get(id);
    return sandbox.status === 'failed' ? sandbox : undefined;
  }, ms);
  expect(failed.host_ip).toBeNull();
  return failed.reason;
}

async function untilNothingIsLeftOf(id: string): Promise<void> {
  const left = () => {
    const { monitors, cgroups, directories } = footprint({ dataDir, instance });
    return [...monitors, ...cgroups, ...directories].filter((name) => name === id);
  };
  await expect.poll(left).toEqual([]);
}

test('a VM that is killed from outside is failed within 2 s, says why, and holds nothing', async () => {
  await using sandbox = await newSandbox(perch);
  const { id } = sandbox;
  const slots = slotNamespaces(instance);
  const flight = perch.sandboxes.exec(id, { cmd: 'sleep', args: ['60'], timeout_sec: 70 }).then(
    () => undefined,
    (error: unknown) => error,
  );
  await eventually(async () => (await sh(perch, id, 'pgrep -x sleep || true')) !== '');

  process.kill(monitorOf(dataDir, id), 'SIGKILL');

  expect(await untilFailed(id, noticedMs)).toMatch(/signal 9 \(SIGKILL\)/);
  expect(isPerchError(await flight, 'sandbox_failed')).toBe(true);
  await expect(perch.sandboxes.exec(id, { cmd: 'true' })).rejects.toMatchObject({
    code: 'sandbox_failed',
    status: 409,
    details: { id, reason: expect.stringContaining('SIGKILL') },
  });
  await untilNothingIsLeftOf(id);
  // Its slot is gone; the pool may have made another, whose number is never that of a slot at rest.
  await expect.poll(() => slots.filter((name) => !slotNamespaces(instance).includes(name))).toHaveLength(1);
});

test('a failed sandbox tells its life in its logs, and can be destroyed', async () => {
  const { id } = await newSandbox(perch);
  process.kill(monitorOf(dataDir, id), 'SIGKILL');
  await untilFailed(id, noticedMs);
  const { events, console } = await perch.sandboxes.logs(id);
  expect(events.map(({ status }) => status)).toEqual(['creating', 'running', 'failed']);
  expect(events.at(-1)?.detail).toContain('SIGKILL');
  expect(typeof console).toBe('string');
  await perch.sandboxes.delete(id);
  await perch.sandboxes.delete(id);
  expect(await perch.sandboxes.get(id)).toMatchObject({ status: 'destroyed' });
});

const ends: [string, string, RegExp][] = [
  // LINUX_REBOOT_CMD_POWER_OFF and _RESTART of reboot(2).
  ['powers itself off', '0x4321fedc', /powered off/],
  ['restarts itself', '0x01234567', /restarted/],
];

test.each(ends)('a guest that %s is failed, and says so', async (_, command, reason) => {
  await using sandbox = await newSandbox(perch);
  const { id } = sandbox;
  const script = `import ctypes; ctypes.CDLL(None).reboot(${command})`;
  const ending = perch.sandboxes.exec(id, { cmd: 'sudo', args: ['python3', '-c', script], timeout_sec: 60 });
  await expect(ending).rejects.toMatchObject({
    code: expect.stringMatching(/sandbox_failed|guest_unavailable/),
  });
  expect(await untilFailed(id)).toMatch(reason);
  await untilNothingIsLeftOf(id);
});

test('a guest whose kernel panics is failed with the words of its kernel', async () => {
  await using sandbox = await newSandbox(perch);
  const crash = { cmd: 'sudo', args: ['sh', '-c', 'echo c > /proc/sysrq-trigger'], timeout_sec: 60 };
  await expect(perch.sandboxes.exec(sandbox.id, crash)).rejects.toMatchObject({
    code: expect.stringMatching(/sandbox_failed|guest_unavailable/),
  });
  expect(await untilFailed(sandbox.id)).toMatch(/panicked.*sysrq/i);
});
