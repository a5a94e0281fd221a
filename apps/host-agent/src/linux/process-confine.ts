/**
 * Starts a program that is not trusted: as another user, without capabilities, in a network namespace.
 *
 * Everything is done by a chain of small tools that exec one another, so that the pid which comes back is the
 * program's own and nothing of ours runs between fork and exec.
 */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { inNamespace } from './netns.ts';

export interface Confinement {
  /** Network namespace under /run/netns. Without one the program gets a new namespace with nothing in it. */
  namespace?: string | undefined;
  /** User and group; no supplementary groups. */
  uid: number;
  /** Largest file that the program can write, bytes; one that goes on is ended by SIGXFSZ. */
  maxFileBytes: number;
  /** Processes and threads that the user can have. */
  maxTasks: number;
  cwd: string;
  /** Descriptor that takes the place of stderr. */
  stderr: number;
  /** What the program reads from stdin, which is /dev/null without. */
  input?: string | undefined;
  /** Descriptor that takes the place of stdout, which is /dev/null without. */
  stdout?: number | undefined;
  /** Descriptors that the program finds as 3, 4, …; it inherits no others. */
  descriptors: readonly number[];
  /** Descriptors that it can have; 1024 without. */
  maxOpen?: number | undefined;
}

const toolPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The command line of the whole chain, which begins in the network namespace that is named. Pure. */
export function confinedCommand(to: Confinement, program: readonly string[]): string[] {
  return [
    ...['unshare', ...(to.namespace === undefined ? ['--net'] : []), '--ipc', '--uts', '--'],
    // A core file would hold the guest's memory.
    ...['prlimit', `--fsize=${to.maxFileBytes}`, `--nproc=${to.maxTasks}`],
    ...[`--nofile=${to.maxOpen ?? 1024}`, '--core=0', '--'],
    // The bounding set is emptied while we may still do so, and no later exec can give anything back.
    ...['setpriv', '--reuid', `${to.uid}`, '--regid', `${to.uid}`, '--clear-groups', '--no-new-privs'],
    ...['--inh-caps=-all', '--bounding-set=-all', '--'],
    ...program,
  ];
}

/**
 * The beginning of the chain for the jailer of Firecracker, which goes on with user, jail and network namespace. It is
 * root with no more than it needs for that. Pure.
 */
export function jailerCommand(
  to: Pick<Confinement, 'maxFileBytes' | 'maxTasks'>,
  program: readonly string[],
): string[] {
  const needed = [
    'chown',
    'dac_override',
    'fowner',
    'mknod',
    'setgid',
    'setuid',
    'sys_admin',
    'sys_chroot',
    'sys_resource',
  ];
  return [
    ...['unshare', '--ipc', '--uts', '--'],
    ...['prlimit', `--fsize=${to.maxFileBytes}`, `--nproc=${to.maxTasks}`, '--core=0', '--'],
    ...['setpriv', '--clear-groups', '--no-new-privs', '--inh-caps=-all'],
    ...[`--bounding-set=-all,${needed.map((one) => `+${one}`).join(',')}`, '--'],
    ...program,
  ];
}

/**
 * A session of its own: neither a Ctrl-C nor our end reaches the program. The child does not keep us alive.
 * @returns the child; when the first tool cannot be started it has no pid and reports `error`
 */
export function spawnConfined(to: Confinement, program: readonly string[]): ChildProcess {
  const start = () => spawnChain(confinedCommand(to, program), to);
  // A tool less in the chain, of which each is a millisecond of every start.
  return to.namespace === undefined ? start() : inNamespace(to.namespace, start);
}

/** The same of the jailer and what it starts. */
export function spawnJailer(
  to: Omit<Confinement, 'namespace' | 'uid' | 'descriptors' | 'maxOpen' | 'input'>,
  program: readonly string[],
): ChildProcess {
  return spawnChain(jailerCommand(to, program), { ...to, descriptors: [] });
}

function spawnChain(
  [file = '', ...args]: readonly string[],
  to: Pick<Confinement, 'cwd' | 'input' | 'stdout' | 'stderr' | 'descriptors'>,
): ChildProcess {
  const stdin = to.input === undefined ? 'ignore' : 'pipe';
  const stdio: StdioOptions = [stdin, to.stdout ?? 'ignore', to.stderr, ...to.descriptors];
  const child: ChildProcess = spawn(file, args, {
    ...{ cwd: to.cwd, env: { PATH: toolPath }, detached: true, stdio },
  });
  // A program that has ended reads no more, which shows by its exit.
  child.stdin?.on('error', () => {});
  child.stdin?.end(to.input);
  child.unref();
  return child;
}
