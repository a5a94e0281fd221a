/** The guest that Perch ships, until its agent answers: needs root, QEMU and what set-up makes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { resolveArtifacts } from '../../../../../images/index.ts';
import { canRunGuests, TestMachine } from './test-machine.ts';

const artifacts = await resolveArtifacts().catch(() => undefined);

/** Asks until there is an answer, from inside the guest's namespace, and prints its status. */
const ask = `
  import { get } from 'node:http';
  const at = { host: '169.254.0.21', port: 49983, path: '/health', timeout: 300 };
  const again = () => setTimeout(go, 5);
  function go() {
    const request = get(at, (answer) => { console.log(answer.statusCode); process.exit(); });
    request.on('timeout', () => request.destroy(new Error('slow'))).on('error', again);
  }
  go();`;

test.runIf(canRunGuests && artifacts)('the guest agent answers', { timeout: 120_000 }, async () => {
  if (!artifacts) return;
  await using machine = new TestMachine();
  const spec = await machine.specFor('agent', {
    initramfs: await machine.shared('initramfs', artifacts.initramfs),
    kernel: await machine.shared('vmlinux', artifacts.kernel),
    from: { format: 'image', image: await machine.shared('base.ext4', artifacts.base.rootfs) },
  });
  const vm = await (await machine.monitor()).boot(spec);
  const { namespace } = spec.network;
  const asker = spawn('ip', ['netns', 'exec', namespace, process.execPath, '--input-type=module', '-e', ask]);
  try {
    const failed = vm.exited.then((reason) => Promise.reject(new Error(reason)));
    const [status] = await Promise.race([once(asker.stdout, 'data'), failed]);
    expect(String(status)).toBe('204\n');
    expect(String(await vm.console())).toContain('ready');
  } finally {
    asker.kill();
    await vm.kill();
  }
});
