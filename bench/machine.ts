/** The machine that the figures were taken on. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { promisify } from 'node:util';

/** Before we add to it. */
const loadAtStart = loadavg();

export async function describeMachine(): Promise<[what: string, is: string][]> {
  const processors = cpus();
  const { stdout } = await promisify(execFile)('qemu-system-x86_64', ['--version']);
  return [
    ['processor', `${processors[0]?.model.trim() ?? 'unknown'}, ${processors.length} cores`],
    ['memory', `${(totalmem() / 2 ** 30).toFixed(1)} GiB`],
    ['system', `${osName()}, Linux ${release()}, Node ${process.versions.node}`],
    ['QEMU', stdout.split('\n')[0]?.replace('QEMU emulator version ', '') ?? 'unknown'],
    ['load at start', loadAtStart.map((load) => load.toFixed(2)).join(' ')],
  ];
}

function osName(): string {
  return /^PRETTY_NAME="(.*)"$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'unknown';
}
