/** Why a monitor ended, as one sentence for a person. Pure. */
import { constants } from 'node:os';
import { printable } from './printable.ts';

export interface ExitFacts {
  /** We ended it. */
  killed: boolean;
  /** The guest stopped the machine, as QEMU names it; undefined as `reason` when nobody was listening. */
  shutdown: { reason: string | undefined } | undefined;
  /** How often the kernel ended a process of its cgroup for want of memory. */
  oomKills: number;
  /** Of a process that we started; nobody else is told. */
  status: { code: number | null; signal: NodeJS.Signals | null } | undefined;
  /** The last of the guest's console. Written by the guest: shown bounded and escaped. */
  console: Buffer;
  /** The last of QEMU's stderr. */
  log: string;
}

export function exitReason(facts: ExitFacts): string {
  if (facts.killed) return 'The VM monitor was ended by Perch';
  if (facts.shutdown) return guestReason(facts.shutdown.reason, facts.console);
  if (facts.oomKills > 0) return 'The kernel ended the VM monitor, which needed more memory than its limit';
  const said = lastLine(facts.log);
  const tail = said === '' ? '' : `: ${said}`;
  if (facts.status?.signal)
    return `The VM monitor was ended by ${describeSignal(facts.status.signal)}${tail}`;
  if (facts.status) return `The VM monitor exited with code ${facts.status.code}${tail}`;
  return `The VM monitor is gone; its exit status is not known, as an earlier host agent started it${tail}`;
}

/** Source of the names: `ShutdownCause` in qapi/run-state.json. */
function guestReason(reason: string | undefined, console: Buffer): string {
  if (reason === 'guest-shutdown') return 'The guest powered off';
  const panic = findLast(console, 'Kernel panic');
  if (panic !== undefined) return `The guest kernel panicked: ${panic}`;
  if (reason === 'guest-panic') return 'The guest kernel panicked';
  if (reason === 'guest-reset') return 'The guest restarted, which ends a sandbox';
  if (reason === undefined) return 'The guest powered off or restarted';
  return `The VM monitor was told to stop (${printable(reason)})`;
}

function describeSignal(signal: NodeJS.Signals): string {
  const hint: Partial<Record<NodeJS.Signals, string>> = {
    SIGSYS: ': a system call that its sandbox denies',
    SIGXFSZ: ': a file grew past the quota of the disk',
  };
  return `signal ${constants.signals[signal]} (${signal})${hint[signal] ?? ''}`;
}

/** The last line that holds `marker`, from the marker on. */
function findLast(text: Buffer, marker: string): string | undefined {
  const at = text.lastIndexOf(marker);
  if (at < 0) return undefined;
  const end = text.indexOf('\n', at);
  return printable(text.toString('latin1', at, end < 0 ? undefined : end));
}

function lastLine(text: string): string {
  const lines = text.split('\n').map((line) => line.trim());
  return printable(lines.findLast((line) => line !== '') ?? '');
}
