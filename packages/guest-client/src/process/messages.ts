/** The guest's messages in the stream of a process, checked field by field. */
import { asInteger, asObject, type Json } from '../connect/json.ts';

export type ProcessMessage =
  | { type: 'start'; pid: number; replay?: Replay }
  | { type: 'stdout' | 'stderr'; data: Buffer }
  /** The reason is one that the exit code does not tell: the kernel ended it, or something that it started. */
  | { type: 'end'; exitCode: number; signal?: number; reason?: 'out_of_memory' }
  | { type: 'keepalive' };

/** The part of the first message for a client that asked for kept output. */
export interface Replay {
  /** The input of the command is open. */
  stdin: boolean;
  /** Whether there was more before the output that follows. */
  truncated: { stdout: boolean; stderr: boolean };
}

export const maxPid = 2 ** 22;
/** Exit code of a shell for a command that signal n ended: 128 + n. */
const signalled = 128;

const outputHeads = (['stdout', 'stderr'] as const).map((type) => ({
  type,
  head: Buffer.from(`{"event":{"data":{"${type}":"`),
}));
const outputTail = Buffer.from('"}}}');

/** Output in just the form in which the agent writes it, for which no text has to be parsed. */
export function readOutput(payload: Buffer): ProcessMessage | undefined {
  for (const { type, head } of outputHeads) {
    const from = head.length;
    const to = payload.length - outputTail.length;
    if (to < from || head.compare(payload, 0, from) !== 0) continue;
    if (outputTail.compare(payload, to) !== 0) continue;
    const text = payload.toString('latin1', from, to);
    // Neither a quote nor a backslash: the rest is all of one string.
    if (!text.includes('"') && !text.includes('\\')) return { type, data: Buffer.from(text, 'base64') };
  }
  return undefined;
}

/** The message, or what is wrong with it. */
export function readMessage(json: Json): ProcessMessage | string {
  const event = asObject(json.event);
  if (!event) return 'an event is missing';
  const data = asObject(event.data);
  if (data) return readData(data);
  const start = asObject(event.start);
  if (start) {
    const pid = asInteger(start.pid, 1, maxPid);
    if (pid === undefined) return 'a pid is no pid';
    const replay = asObject(start.replay);
    return { type: 'start', pid, ...(replay ? { replay: readReplay(replay) } : {}) };
  }
  const end = asObject(event.end);
  if (end) return readEnd(end);
  if (asObject(event.keepalive)) return { type: 'keepalive' };
  return 'an event is of no known kind';
}

function readReplay({ stdin, truncated }: Json): Replay {
  const isCut = (stream: string) => Array.isArray(truncated) && truncated.includes(stream);
  const stdout = isCut('stdout') || isCut('pty');
  return { stdin: stdin === true, truncated: { stdout, stderr: isCut('stderr') } };
}

function readData(data: Json): ProcessMessage | string {
  for (const type of ['stdout', 'stderr'] as const) {
    const text = data[type];
    if (typeof text === 'string') return { type, data: Buffer.from(text, 'base64') };
  }
  return 'output is of no known stream';
}

export function readEnd(end: Json): Extract<ProcessMessage, { type: 'end' }> | string {
  const exitCode = asInteger(end.exitCode, -1, 255);
  const signal = asInteger(end.signal, 0, 64);
  if (exitCode === undefined || signal === undefined) return 'an exit code is no exit code';
  const reason = end.reason === 'out_of_memory' ? ({ reason: 'out_of_memory' } as const) : {};
  if (signal > 0) return { type: 'end', exitCode: signalled + signal, signal, ...reason };
  return { type: 'end', exitCode: exitCode === -1 ? 255 : exitCode, ...reason };
}
