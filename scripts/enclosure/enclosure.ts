import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { join } from 'node:path';
import { RunFolder } from './run-folder.ts';

const marker = 'PERCH_ENCLOSED';
const processOne = join(import.meta.dirname, 'process-1.sh');
const sweeper = join(import.meta.dirname, 'sweeper.sh');
const endings = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs the calling script once more, in an enclosure, and ends with its exit code. Returns at once when it is in one already.
 * @param prepare outside of the enclosure, where there is a network. @returns variables for the environment inside
 */
export async function enclose(prepare: () => Promise<Record<string, string>>): Promise<void> {
  if (process.env[marker] !== undefined) return;
  const command = [process.execPath, ...process.argv.slice(1)];
  process.exit(await runEnclosed(command, await prepare()));
}

/**
 * Runs a command with namespaces of its own for network, mounts, processes and IPC, a temporary directory and control
 * groups. All of it ends with the command, and with this process, however that ends: the kernel closes its end of a pipe,
 * at which process 1 of the enclosure ends. The command gets SIGTERM then, and some seconds. SIGINT, SIGTERM and SIGHUP
 * do the same. Its files go, too, by a process that outlives this one.
 * @returns the exit code of the command, 128 and its number when a signal came
 */
export async function runEnclosed(
  command: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<number> {
  await RunFolder.sweep();
  await using folder = await RunFolder.take();
  const unshare = [
    '--net',
    '--mount',
    '--propagation=private',
    '--mount-proc',
    '--ipc',
    '--pid',
    '--kill-child',
  ];
  const mounts = folder.controlGroups.flatMap(({ group, mount }) => [group, mount]);
  const child = spawn('unshare', [...unshare, 'bash', processOne, ...mounts, '--', ...command], {
    // A session of its own: Ctrl-C of a terminal comes here alone.
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit', 'pipe', folder.lock],
    env: { ...process.env, ...env, [marker]: '1', TMPDIR: folder.path },
  });
  sweepAfter(folder);
  let signal: NodeJS.Signals | undefined;
  const end = (received: NodeJS.Signals) => {
    signal ??= received;
    child.stdio[3]?.destroy();
  };
  for (const name of endings) process.on(name, end);
  try {
    const [code] = (await once(child, 'exit')) as [number | null];
    return signal ? 128 + constants.signals[signal] : (code ?? 1);
  } finally {
    for (const name of endings) process.off(name, end);
  }
}

/** Has the folder removed when this process ends and has not done it: then it was killed. */
function sweepAfter({ path, controlGroups }: RunFolder): void {
  const groups = controlGroups.map(({ group }) => group);
  // Its standard input is never written to: it ends with this process.
  spawn('bash', [sweeper, path, ...groups], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] }).unref();
}
