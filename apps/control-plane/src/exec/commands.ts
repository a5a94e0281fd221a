/** The commands of a sandbox, as the API tells them. */
import { isUtf8 } from 'node:buffer';
import type { GuestCommand, GuestCommandOutput, KeptOutput } from '@perch/guest-client';
import type { Command, CommandStatus, CommandWithOutput } from '@perch/protocol';
import { validationError } from '../validation/index.ts';
import type { Output } from './output.ts';
import { incompleteTail } from './utf8.ts';

interface Page {
  items: Command[];
  next_cursor: string | null;
}

/** The newest first. @throws PerchError validation_failed for what is no cursor */
export function pageOf(
  commands: readonly GuestCommand[],
  { status, limit, cursor }: { status: CommandStatus | undefined; limit: number; cursor: string | undefined },
): Page {
  const after = cursor === undefined ? undefined : decode(cursor);
  const rest = commands
    .filter((command) => status === undefined || statusOf(command) === status)
    .filter((command) => !after || order(after, command) < 0)
    .sort(order);
  const items = rest.slice(0, limit);
  const last = rest.length > limit ? items.at(-1) : undefined;
  return { items: items.map(toCommand), next_cursor: last ? encode(last) : null };
}

export function toCommandWithOutput(command: GuestCommandOutput): CommandWithOutput {
  const running = command.end === undefined;
  const [out, err] = [textOf(command.stdout, running), textOf(command.stderr, running)];
  return {
    ...toCommand(command),
    stdout: out.data,
    stderr: err.data,
    encoding: { stdout: out.encoding, stderr: err.encoding },
    truncated: { stdout: out.truncated, stderr: err.truncated },
  };
}

/** When a command was last seen running: now, or when the last one ended. Undefined: there was none. */
export function lastUse(commands: readonly GuestCommand[], now: Date): Date | undefined {
  const ends = commands.map(({ end }) => Math.min(end?.at.getTime() ?? now.getTime(), now.getTime()));
  return ends.length === 0 ? undefined : new Date(Math.max(...ends));
}

function toCommand({ pid, cmd, args, startedAt, end }: GuestCommand): Command {
  return {
    pid,
    status: statusOf({ end }),
    cmd,
    args,
    exit_code: end?.exitCode ?? null,
    ...(end?.reason ? { reason: end.reason } : {}),
    started_at: startedAt.toISOString(),
    ended_at: end?.at.toISOString() ?? null,
  };
}

function statusOf({ end }: Pick<GuestCommand, 'end'>): CommandStatus {
  return end ? 'ended' : 'running';
}

type Position = Pick<GuestCommand, 'startedAt' | 'pid'>;

function order(a: Position, b: Position): number {
  return b.startedAt.getTime() - a.startedAt.getTime() || b.pid - a.pid;
}

function encode({ startedAt, pid }: Position): string {
  return Buffer.from(`${startedAt.getTime()}.${pid}`).toString('base64url');
}

function decode(cursor: string): Position {
  const match = /^(\d{1,15})\.(\d{1,7})$/.exec(Buffer.from(cursor, 'base64url').toString('latin1'));
  if (match) return { startedAt: new Date(Number(match[1])), pid: Number(match[2]) };
  throw validationError([{ where: 'cursor', message: 'must be the next_cursor of an earlier answer' }]);
}

/** Kept output may begin inside a character, and end in one when the command still runs. */
function textOf({ data, truncated }: KeptOutput, running: boolean): Output {
  const from = truncated ? data.subarray(0, 3).findIndex((byte) => (byte & 0xc0) !== 0x80) : 0;
  const begun = data.subarray(Math.max(from, 0));
  const bytes = running ? begun.subarray(0, begun.length - incompleteTail(begun)) : begun;
  return isUtf8(bytes)
    ? { data: bytes.toString('utf8'), encoding: 'utf-8', truncated }
    : { data: data.toString('base64'), encoding: 'base64', truncated };
}
