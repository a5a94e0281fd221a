/** The output of the command line: lines for people, JSON for programs. */
import { failuresOf, printable } from '@perch/node-kit';
import { dataPaths, PerchError, readSettings } from '@perch/protocol';
import pc from 'picocolors';
import { InterruptedError } from './interrupt.ts';
import { remedyOf } from './remedies.ts';

export interface Output {
  readonly json: boolean;
  /** A line for people; nothing with --json. */
  line(text: string): void;
  /** One JSON value a line with --json; nothing for people. */
  value(value: unknown): void;
}

export function createOutput(json: boolean): Output {
  return {
    json,
    line: (text) => {
      if (!json) process.stdout.write(`${text}\n`);
    },
    value: (value) => {
      if (json) process.stdout.write(`${JSON.stringify(value)}\n`);
    },
  };
}

/** Exit codes of the command line; `perch exec` passes on the command's own. */
export const exitCodes = {
  ok: 0,
  failed: 1,
  usage: 2,
  internal: 70,
  /** Of `perch exec`, as of timeout(1). */
  execTimeout: 124,
  /** Of `perch exec`: there is no exit code of the command to pass on. */
  execFailed: 125,
} as const;

interface Told {
  code: string;
  message: string;
  remedy: string;
  details?: unknown;
}

/** Prints what failed and what to do about it. @returns the exit code */
export function reportError(thrown: unknown, json: boolean): number {
  const [error, ...later] = failuresOf(thrown);
  const known = tell(error);
  const told = known ?? {
    code: 'cli_fault',
    message: `A fault of Perch's own: ${messageOf(error)}`,
    remedy: 'Report it with what is printed here.',
  };
  const then = later.map((failure) => printable(messageOf(failure)));
  if (json) {
    process.stderr.write(`${JSON.stringify({ error: then.length > 0 ? { ...told, then } : told })}\n`);
  } else {
    process.stderr.write(`${pc.red('✗')} ${told.message}\n`);
    for (const problem of problemsOf(error)) process.stderr.write(`  - ${printable(problem)}\n`);
    for (const failure of then) process.stderr.write(`  Then this failed, too: ${failure}\n`);
    process.stderr.write(`  ${told.remedy}\n`);
    const log = logOf(error);
    if (log) process.stderr.write(`  ${log}\n`);
    if (!known && error instanceof Error) process.stderr.write(`${pc.dim(error.stack ?? '')}\n`);
  }
  if (error instanceof InterruptedError) return error.exitCode;
  return known ? exitCodes.failed : exitCodes.internal;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Errors that say what to do: the server's, the client's, and those of other folders. */
function tell(error: unknown): Told | undefined {
  if (error instanceof PerchError) {
    const { code, message, details } = error;
    return { code, message: printable(message), remedy: remedyOf(code), details };
  }
  if (!(error instanceof Error) || !('remedy' in error) || typeof error.remedy !== 'string') return undefined;
  const code = error.name.replace(/Error$/, '').replace(/(?<=.)[A-Z]/g, (letter) => `_${letter}`);
  return { code: `${code.toLowerCase()}_error`, message: error.message, remedy: error.remedy };
}

function problemsOf(error: unknown): string[] {
  if (!(error instanceof PerchError) || error.code !== 'validation_failed') return [];
  const { problems = [] } = error.details as { problems?: { where: string; message: string }[] };
  // A single one is in the message already.
  return problems.length < 2 ? [] : problems.map(({ where, message }) => `${where} ${message}`);
}

/** The cause of a daemon's failure is in its log, which is on this machine when Perch is. */
function logOf(error: unknown): string | undefined {
  if (!(error instanceof PerchError) || error.status < 500) return undefined;
  if (error.code === 'capacity_exhausted' || error.code === 'exec_timeout') return undefined;
  const { log } = dataPaths(readSettings().dataDir);
  return `The logs of the daemons are on the machine that runs Perch: in ${log}, of units of systemd by journalctl -u perchd -u perch-host.`;
}

/** Columns as wide as they need to be. */
export function table(head: string[], rows: string[][]): string {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (cells: string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return [pc.bold(line(head)), ...rows.map(line)].join('\n');
}
