/** How much of the machine others took meanwhile: a figure is only as good as the machine was quiet. */
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { pids } from '../packages/node-kit/src/index.ts';

/** Clock ticks of all processors since boot, and since when. */
export interface Use {
  /** That any process or the kernel worked. */
  busy: number;
  /** Of those, by processes of this run, ended ones included. */
  own: number;
  /** That another machine on the same hardware had. */
  stolen: number;
  /** All that there were. */
  all: number;
}

/** Above this share of all processors a figure is not to be trusted. */
export const quietShare = 0.1;

/** Only this run's processes are seen in an enclosure; the processors' times are those of the whole machine. */
export function useOfProcessors(): Use {
  const stat = readFileSync('/proc/stat', 'latin1');
  return { ...parseTimes(stat), own: pids().reduce((sum, pid) => sum + ownTicks(pid), 0) };
}

/** Share of all processors that others had between the two, 0 to 1. */
export function shareOfOthers(before: Use, after: Use): number {
  const all = after.all - before.all;
  if (all <= 0) return 0;
  const others = after.busy - before.busy - (after.own - before.own);
  return Math.min(1, Math.max(0, others + after.stolen - before.stolen) / all);
}

/** Of the last minute, for each processor. */
export function loadPerProcessor(): number {
  return Number(readFileSync('/proc/loadavg', 'latin1').split(' ')[0]) / cpus().length;
}

/**
 * The line `cpu user nice system idle iowait irq softirq steal guest guest_nice`. Guests are in `user` and `nice`, too.
 * Source: proc_stat(5).
 */
export function parseTimes(stat: string): Omit<Use, 'own'> {
  const fields = /^cpu +([\d ]+)$/m.exec(stat)?.[1]?.split(' ').map(Number) ?? [];
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, stolen = 0] = fields;
  const busy = user + nice + system + irq + softirq;
  return { busy, stolen, all: busy + stolen + idle + iowait };
}

/** Of a process and of its children that it has waited for: fields 14 to 17 of proc_pid_stat(5). */
function ownTicks(pid: number): number {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return 0;
  }
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0);
}
