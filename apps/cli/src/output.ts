/** What the command line prints: lines for people, JSON for programs. */
import { PerchError } from '@perch/protocol';
import { ConnectionError } from '@perch/sdk';
import pc from 'picocolors';
import { CliError } from './launcher/index.ts';

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
export const exitCodes = { ok: 0, failed: 1, usage: 2, internal: 70 } as const;

/** Prints what failed and what to do about it. @returns the exit code */
export function reportError(error: unknown, json: boolean): number {
  const known =
    error instanceof PerchError || error instanceof CliError || error instanceof ConnectionError
      ? { message: error.message, remedy: error.remedy }
      : remedyOf(error);
  if (json) {
    const code = error instanceof PerchError ? error.code : 'cli_error';
    process.stderr.write(`${JSON.stringify({ error: { code, ...known } })}\n`);
  } else {
    process.stderr.write(`${pc.red('✗')} ${known?.message ?? String(error)}\n`);
    if (known?.remedy) process.stderr.write(`  ${known.remedy}\n`);
    if (!known && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  }
  return known ? exitCodes.failed : exitCodes.internal;
}

/** Errors of other folders that carry a remedy, such as one of the image builds. */
function remedyOf(error: unknown): { message: string; remedy: string } | undefined {
  if (!(error instanceof Error) || !('remedy' in error) || typeof error.remedy !== 'string') return undefined;
  return { message: error.message, remedy: error.remedy };
}
