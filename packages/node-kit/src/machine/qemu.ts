import { RunError, type RunResult, run } from '../run.ts';

export const qemuProgram = 'qemu-system-x86_64';
const oldest = '10.0.0';
const install =
  'apt-get install -t bookworm-backports qemu-system-x86 qemu-utils (Debian 12), or a newer Debian';

export interface FoundQemu {
  /** '' when there is none. */
  version: string;
  /** Why no guest can be started with it. */
  problem: { what: string; remedy: string } | undefined;
}

/**
 * The QEMU that the host agent would start, and whether it will do.
 * @param ask runs `qemu-system-x86_64 --version`
 * @throws RunError when it was killed: that says nothing about the machine
 */
export async function findQemu(
  ask: () => Promise<RunResult> = () => run(qemuProgram, ['--version']),
): Promise<FoundQemu> {
  const unusable = (what: string, version = '') => ({ version, problem: { what, remedy: install } });
  try {
    const version = parseVersion((await ask()).stdout);
    if (version === undefined) return unusable('QEMU does not tell its version');
    if (isAtLeast(version, oldest)) return { version, problem: undefined };
    return unusable(`QEMU is ${version}; Perch needs ${oldest} or later`, version);
  } catch (error) {
    if (!(error instanceof RunError) || error.outcome === 'unknown') throw error;
    const why = error.outcome === 'not_started' ? 'is not installed' : 'does not run';
    return unusable(`${qemuProgram} ${why}`);
  }
}

/** `QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)` → `10.0.2` */
export function parseVersion(text: string): string | undefined {
  return /version (\d+\.\d+\.\d+)/.exec(text)?.[1];
}

export function isAtLeast(version: string, oldest: string): boolean {
  const [a, b] = [version, oldest].map((each) => each.split('.').map(Number));
  for (let i = 0; i < 3; i++) {
    const difference = (a?.[i] ?? 0) - (b?.[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}
