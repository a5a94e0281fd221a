/** Network namespaces that have a name under /run/netns, as `ip netns` keeps them. */
import { closeSync, existsSync, openSync, readdirSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import { type RunOptions, type RunResult, run } from '@perch/node-kit';
import { linkIndex, setNetworkNamespace } from './ffi.ts';

const directory = '/run/netns';
const namePattern = /^[a-z0-9][a-z0-9-]{0,62}$/;

function namespacePath(name: string): string {
  if (!namePattern.test(name)) throw new Error(`not a name of a network namespace: ${JSON.stringify(name)}`);
  return `${directory}/${name}`;
}

/** True also for a name that a crash left without a namespace behind it. */
export function namespaceExists(name: string): boolean {
  return existsSync(namespacePath(name));
}

export function listNamespaces(prefix: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory).filter((name) => name.startsWith(prefix) && namePattern.test(name));
}

/**
 * Does synchronous work inside a namespace.
 *
 * setns(2) moves one thread. The main thread does all JavaScript and forks all child processes, so sockets,
 * files and children that `work` opens belong to the namespace; whatever runs later, or on Node's thread
 * pool, does not. Going back cannot fail in practice; were it to, everything after it would happen in a
 * guest's network, so the process ends at once and recovers by its next start.
 */
export function inNamespace<T>(name: string, work: () => T): T {
  if (!isMainThread) throw new Error('network namespaces are entered on the main thread only');
  const target = openSync(namespacePath(name), 'r');
  try {
    const home = openSync('/proc/thread-self/ns/net', 'r');
    try {
      setNetworkNamespace(target);
      try {
        const result = work();
        if (result instanceof Promise) throw new Error('work in a namespace must be synchronous');
        return result;
      } finally {
        comeBack(home);
      }
    } finally {
      closeSync(home);
    }
  } finally {
    closeSync(target);
  }
}

function comeBack(home: number): void {
  try {
    setNetworkNamespace(home);
  } catch {
    process.abort();
  }
}

/** Runs a tool, inside the namespace where one is given. It is a child of ours in every other respect. */
export function runIn(
  namespace: string | undefined,
  file: string,
  args: readonly string[],
  options?: RunOptions,
): Promise<RunResult> {
  if (namespace === undefined) return run(file, args, options);
  return inNamespace(namespace, () => ({ ended: run(file, args, options) })).ended;
}

export interface IpOptions {
  namespace?: string;
  /** Goes on after a line that fails; the run as a whole still fails. */
  force?: boolean;
}

/** Commands of ip(8), one a line, in one process. */
export async function ipBatch(lines: readonly string[], options: IpOptions = {}): Promise<void> {
  const args = [...(options.force ? ['-force'] : []), '-batch', '-'];
  await runIn(options.namespace, 'ip', args, { input: `${lines.join('\n')}\n` });
}

/** The answer of `ip -json …`. */
export async function ipJson<T>(args: readonly string[], namespace?: string): Promise<T[]> {
  const { stdout } = await runIn(namespace, 'ip', ['-json', ...args]);
  return stdout.trim() === '' ? [] : JSON.parse(stdout);
}

/** Whether a link of that name exists in our own namespace. */
export function linkExists(name: string): boolean {
  return linkIndex(name) !== undefined;
}
