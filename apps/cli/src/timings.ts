import { printable } from '@perch/node-kit';
import type { SandboxTransition } from '@perch/sdk';
import pc from 'picocolors';
import type { Output } from './output.ts';

/** The id for scripts, and for people on a terminal a line of what took how long. */
export function printTransition(sandbox: SandboxTransition, output: Output): void {
  output.value(sandbox);
  output.line(sandbox.id);
  if (output.json || !process.stdout.isTTY) return;
  process.stderr.write(pc.dim(`${timingsLine(sandbox)}\n`));
}

/** Such as `paused in 48 ms: freeze 1, device state 2, memory 30`. */
export function timingsLine({ status, timings_ms }: SandboxTransition): string {
  return stagesLine(status, timings_ms);
}

/** The same for what became of something. */
export function stagesLine(what: string, timings_ms: Readonly<Record<string, number>>): string {
  const { total, ...stages } = timings_ms;
  const parts = Object.entries(stages).map(
    ([stage, ms]) => `${printable(stage).replaceAll('_', ' ')} ${rounded(ms)}`,
  );
  const whole = total === undefined ? what : `${what} in ${rounded(total)} ms`;
  return parts.length === 0 ? whole : `${whole}: ${parts.join(', ')}`;
}

/** To a tenth below ten, else whole. */
function rounded(ms: number): string {
  return String(ms < 10 ? Math.round(ms * 10) / 10 : Math.round(ms));
}
