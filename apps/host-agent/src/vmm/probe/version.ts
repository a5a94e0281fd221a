import { RunError, type RunResult } from '../../linux/index.ts';

const oldest = '10.0.0';
const install =
  'apt-get install -t bookworm-backports qemu-system-x86 qemu-utils (Debian 12), or a newer Debian';

/**
 * @param ask runs `qemu-system-x86_64 --version`
 * @throws RunError when it was killed: that says nothing about the machine
 */
export async function findVersion(
  ask: () => Promise<RunResult>,
): Promise<{ version: string; problems: string[] }> {
  try {
    const version = parseVersion((await ask()).stdout);
    if (version === undefined)
      return { version: '', problems: [`QEMU does not tell its version. ${install}`] };
    if (isAtLeast(version, oldest)) return { version, problems: [] };
    return { version, problems: [`QEMU is ${version}; Perch needs ${oldest} or later: ${install}`] };
  } catch (error) {
    if (!(error instanceof RunError) || error.outcome === 'unknown') throw error;
    const why = error.outcome === 'not_started' ? 'is not installed' : 'does not run';
    return { version: '', problems: [`qemu-system-x86_64 ${why}: ${install}`] };
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
