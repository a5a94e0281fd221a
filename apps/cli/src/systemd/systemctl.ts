/** The few calls of systemctl(1) that are needed. */
import { existsSync } from 'node:fs';
import { RunError, run } from '@perch/node-kit';
import { CliError } from '../errors.ts';
import { installed } from './installed.ts';
import { unitNames } from './places.ts';
import { startMs, stopMs } from './time-limits.ts';

/** Longer than the units may take to stop and to start, one after the other. */
const timeoutMs = unitNames.length * (startMs + stopMs) + 60_000;

/** As sd_booted(3) tells it. */
const booted = () => existsSync('/run/systemd/system');

/** @throws CliError on a machine of another init system */
export function requireSystemd(): void {
  if (booted()) return;
  throw new CliError(
    'This machine was not started by systemd.',
    'Start Perch with `npm start`, or have the init system that there is start `perch up`.',
  );
}

/** @throws CliError with what it said */
export async function systemctl(...args: string[]): Promise<string> {
  try {
    return (await run('systemctl', args, { timeoutMs })).stdout;
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    throw new CliError(
      `systemctl ${args.join(' ')} failed. ${error.stderr.trim() || error.message}`,
      `Read what the daemons said: journalctl -o cat -n 50 ${unitNames.map((name) => `-u ${name}`).join(' ')}`,
      { cause: error },
    );
  }
}

/** Whether systemd keeps a daemon of this data directory running. */
export async function unitsRun(dataDir: string): Promise<boolean> {
  if (!booted() || (await installed().catch(() => undefined))?.dataDir !== dataDir) return false;
  const states = await systemctl('show', '--property=ActiveState', '--value', ...unitNames);
  return states.split('\n').some((state) => state !== '' && !['inactive', 'failed'].includes(state));
}

/** Sandboxes run on. */
export async function stopUnits(): Promise<void> {
  await systemctl('stop', ...unitNames.toReversed());
}
