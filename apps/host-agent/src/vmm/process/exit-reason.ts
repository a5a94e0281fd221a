/** Why a VM ended, as one sentence for a person. Pure. */
import { constants } from 'node:os';
import { quoted } from '@perch/node-kit';

export interface ExitFacts {
  /** We ended it. */
  killed: boolean;
  /** How the guest ended by itself, as far as its monitor knows: a sentence. */
  guest: string | undefined;
  /** How often the kernel ended a process of its cgroup for want of memory. */
  oomKills: number;
  /** The process that ended first, as a sentence begins with it. */
  process: string;
  /** Of a process that we started; nobody else is told. */
  status: ExitStatus | undefined;
  /** The last of the processes' stderr. */
  log: string;
}

export interface ExitStatus {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** Of a guest whose processor was reset, whatever its kernel said before. */
export const guestRestarted = 'The guest restarted, which ends a sandbox';

export function exitReason({ killed, guest, oomKills, process, status, log }: ExitFacts): string {
  if (killed) return `${process} was ended by Perch`;
  if (guest !== undefined) return guest;
  if (oomKills > 0) return `The kernel ended ${lowerFirst(process)}, which needed more memory than its limit`;
  const said = lastLine(log);
  const tail = said === '' ? '' : `: ${said}`;
  if (status?.signal) return `${process} was ended by ${describeSignal(status.signal)}${tail}`;
  if (status) return `${process} exited with code ${status.code}${tail}`;
  return `${process} is gone; its exit status is not known, as an earlier host agent started it${tail}`;
}

function lowerFirst(text: string): string {
  return `${text.charAt(0).toLowerCase()}${text.slice(1)}`;
}

function describeSignal(signal: NodeJS.Signals): string {
  const hint: Partial<Record<NodeJS.Signals, string>> = {
    SIGSYS: ': a system call that its sandbox denies',
    SIGXFSZ: ': a file grew past the quota of the disk',
  };
  return `signal ${constants.signals[signal]} (${signal})${hint[signal] ?? ''}`;
}

function lastLine(text: string): string {
  const lines = text.split('\n').map((line) => line.trim());
  return quoted(lines.findLast((line) => line !== '') ?? '');
}
