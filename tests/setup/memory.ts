/** Memory of processes of this machine, from /proc (proc_pid_status(5), proc_pid_clear_refs(5)). */
import { readFile, writeFile } from 'node:fs/promises';

export async function residentMb(pid: number): Promise<number> {
  return field(pid, 'VmRSS');
}

/** Most that the process held since `forgetPeak`, MiB. */
export async function peakMb(pid: number): Promise<number> {
  return field(pid, 'VmHWM');
}

export async function forgetPeak(pid: number): Promise<void> {
  await writeFile(`/proc/${pid}/clear_refs`, '5');
}

async function field(pid: number, name: string): Promise<number> {
  return mbOf(await readFile(`/proc/${pid}/status`, 'utf8'), name);
}

/** @param status text of a /proc/PID/status */
export function mbOf(status: string, name: string): number {
  const kib = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1];
  if (kib === undefined) throw new Error(`No ${name} in ${status}`);
  return Math.round(Number(kib) / 1024);
}
