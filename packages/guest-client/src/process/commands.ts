/** The commands of a guest, with the output and the end that it keeps of each. */
import { PerchError } from '@perch/protocol';
import { asInteger, asObject, asText, type Json } from '../connect/json.ts';
import { guestProtocol, startError } from '../errors.ts';
import type { StreamOptions } from '../frames.ts';
import { Refused, type Transport } from '../transport.ts';
import { maxPid, readEnd } from './messages.ts';
import { type AttachedProcess, attachProcess } from './process.ts';

export interface GuestCommand {
  pid: number;
  cmd: string;
  args: string[];
  startedAt: Date;
  /** Undefined while it runs. As for a `ProcessEvent`. */
  end: { exitCode: number; reason?: 'out_of_memory'; at: Date } | undefined;
}

export interface KeptOutput {
  data: Buffer;
  /** There was more before it. */
  truncated: boolean;
}

export interface GuestCommandOutput extends GuestCommand {
  stdout: KeptOutput;
  stderr: KeptOutput;
}

const nothing: KeptOutput = { data: Buffer.alloc(0), truncated: false };
/** The agent keeps less of either. */
const maxWords = 4096;
const maxKept = 256 * 1024;
/** The year 9999, of which a date can be written. */
const maxTime = 253_402_300_799_000;

export async function listCommands(transport: Transport, signal?: AbortSignal): Promise<GuestCommand[]> {
  const { sandboxId } = transport.options;
  const answer = await transport
    .unary({ path: '/perch.Commands/List', body: {}, signal })
    .catch((error: unknown) => refused(error, transport));
  const { commands = [] } = answer;
  if (!Array.isArray(commands)) throw guestProtocol(sandboxId, 'the list of commands is no list');
  return commands.map((command: unknown) => readCommandInfo(command, sandboxId));
}

export async function readCommand(
  transport: Transport,
  pid: number,
  signal?: AbortSignal,
): Promise<GuestCommandOutput> {
  const { sandboxId } = transport.options;
  const answer = await transport
    .unary({ path: '/perch.Commands/Get', body: { process: { pid } }, signal })
    .catch((error: unknown) => refused(error, transport, pid));
  const outputs = asObject(answer.outputs) ?? {};
  const kept = (stream: string) => readKept(asObject(outputs[stream]), sandboxId);
  const command = readCommandInfo(answer.command, sandboxId);
  // The output of a terminal is one.
  const [stdout, stderr] = outputs.pty ? [kept('pty'), nothing] : [kept('stdout'), kept('stderr')];
  return { ...command, stdout, stderr };
}

export function attachCommand(
  transport: Transport,
  pid: number,
  options: StreamOptions,
  kill: (pid: number) => Promise<unknown>,
): Promise<AttachedProcess> {
  return attachProcess(transport, pid, options, kill).catch((error: unknown) =>
    refused(error, transport, pid),
  );
}

function readCommandInfo(value: unknown, sandboxId: string): GuestCommand {
  const command = asObject(value);
  const pid = asInteger(command?.pid, 1, maxPid);
  const cmd = asText(command?.cmd, maxWords);
  const args = command?.args ?? [];
  const startedAt = asInteger(command?.startedAt, 0, maxTime);
  const areWords =
    Array.isArray(args) &&
    args.length <= maxWords &&
    args.every((arg) => typeof arg === 'string' && arg.length <= maxWords);
  if (pid === undefined || cmd === undefined || startedAt === undefined || !areWords) {
    throw guestProtocol(sandboxId, 'a listed command is malformed');
  }
  const end = readEndOf(command, sandboxId);
  return { pid, cmd, args, startedAt: new Date(startedAt), end };
}

function readEndOf(command: Json | undefined, sandboxId: string): GuestCommand['end'] {
  const end = asObject(command?.end);
  if (!end) return undefined;
  const read = readEnd(end);
  const at = asInteger(command?.endedAt, 0, maxTime);
  if (typeof read === 'string') throw guestProtocol(sandboxId, read);
  if (at === undefined) throw guestProtocol(sandboxId, 'a command ended at no time');
  const { exitCode, reason } = read;
  return { exitCode, ...(reason ? { reason } : {}), at: new Date(at) };
}

function readKept(kept: Json | undefined, sandboxId: string): KeptOutput {
  const text = asText(kept?.data, maxKept);
  if (text === undefined) throw guestProtocol(sandboxId, 'kept output is malformed');
  return { data: Buffer.from(text, 'base64'), truncated: kept?.truncated === true };
}

/** @throws command_not_found, or what else the refusal means */
function refused(error: unknown, { options: { sandboxId } }: Transport, pid = 0): never {
  if (!(error instanceof Refused)) throw error;
  if (error.refusal.code !== 'not_found') throw startError(error.refusal, { sandboxId });
  throw new PerchError('command_not_found', `Sandbox ${sandboxId} knows no command with the pid ${pid}.`, {
    id: sandboxId,
    pid,
  });
}
