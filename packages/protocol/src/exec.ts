/** Schemas of `…/exec` and the messages of `…/exec/stream`. */
import { type Static, Type } from 'typebox';
import type { ErrorBody } from './error-body.ts';
import { limits } from './limits.ts';
import { signals } from './names.ts';
import { Env } from './sandbox.ts';

const arg = { maxLength: limits.exec.argLength, pattern: '^[^\\u0000]*$' };

const command = {
  cmd: Type.String({ ...arg, minLength: 1, description: 'Program: a path, or a name found in PATH.' }),
  args: Type.Optional(Type.Array(Type.String(arg), { maxItems: limits.exec.args, default: [] })),
  env: Type.Optional(Env),
  cwd: Type.Optional(Type.String({ maxLength: limits.path, pattern: '^[^\\u0000]+$' })),
  user: Type.Optional(Type.String({ pattern: '^[a-z_][a-z0-9_-]{0,31}$' })),
};

export const ExecRequest = Type.Object(
  {
    ...command,
    stdin: Type.Optional(
      Type.String({ maxLength: 8 * 1024 * 1024, description: 'Sent whole, then closed.' }),
    ),
    timeout_sec: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: limits.exec.timeoutSecMax,
        default: limits.exec.timeoutSecDefault,
      }),
    ),
  },
  { $id: 'ExecRequest', additionalProperties: false },
);
export type ExecRequest = Static<typeof ExecRequest>;

export const OutputEncoding = Type.Union([Type.Literal('utf-8'), Type.Literal('base64')]);
export type OutputEncoding = Static<typeof OutputEncoding>;

/** Why a command ended, where its exit code does not tell. */
export const ExitReason = Type.Optional(
  Type.Literal('out_of_memory', {
    description:
      'Beside exit code 137: the sandbox had no memory left, and its kernel ended the command or a part of it.',
  }),
);

export const ExecResult = Type.Object(
  {
    stdout: Type.String(),
    stderr: Type.String(),
    exit_code: Type.Integer({ description: '127: no such command; 128 + n: ended by signal n.' }),
    reason: ExitReason,
    duration_ms: Type.Number(),
    encoding: Type.Object({ stdout: OutputEncoding, stderr: OutputEncoding }),
    truncated: Type.Object({ stdout: Type.Boolean(), stderr: Type.Boolean() }),
  },
  { $id: 'ExecResult' },
);
export type ExecResult = Static<typeof ExecResult>;

export const ExecTicket = Type.Object(
  { ticket: Type.String(), expires_at: Type.String({ format: 'date-time' }) },
  { $id: 'ExecTicket' },
);
export type ExecTicket = Static<typeof ExecTicket>;

const sides = {
  cols: Type.Integer({ minimum: 1, maximum: 65_535 }),
  rows: Type.Integer({ minimum: 1, maximum: 65_535 }),
};
export const TerminalSize = Type.Object(sides, { additionalProperties: false });
export type TerminalSize = Static<typeof TerminalSize>;

const binary = Type.Optional(
  Type.Boolean({
    default: false,
    description:
      'Output comes, and stdin may come, as binary messages: a byte that names the stream (0 stdin, 1 stdout, ' +
      '2 stderr), then its bytes.',
  }),
);

/** The messages of the client of `exec/stream`; the first message is `start` or `attach`. */
export const ExecClientMessage = Type.Union([
  Type.Object(
    {
      type: Type.Literal('start'),
      ...command,
      stdin: Type.Optional(Type.Boolean({ default: false, description: 'Keep stdin open for `stdin`.' })),
      pty: Type.Optional(
        Type.Object(sides, {
          additionalProperties: false,
          description:
            'Give the command a terminal of this size. All of its output comes as `stdout`; `stdin` is what is typed, ' +
            'such as \\u0003 for Ctrl-C and \\u0004 for the end of input, and needs no `"stdin": true`.',
        }),
      ),
      timeout_sec: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.exec.timeoutSecMax })),
      detach: Type.Optional(
        Type.Boolean({ default: false, description: 'Let the command live on when the connection ends.' }),
      ),
      binary,
    },
    { additionalProperties: false },
  ),
  Type.Object(
    {
      type: Type.Literal('attach'),
      pid: Type.Integer({
        minimum: 1,
        maximum: 2 ** 22,
        description: 'Of a command that runs, or has ended.',
      }),
      binary,
    },
    { additionalProperties: false },
  ),
  Type.Object(
    {
      type: Type.Literal('stdin'),
      data: Type.Optional(Type.String()),
      data_base64: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  Type.Object(
    { type: Type.Literal('resize'), ...sides },
    { additionalProperties: false, description: 'Of the terminal.' },
  ),
  Type.Object({ type: Type.Literal('stdin_close') }, { additionalProperties: false }),
  Type.Object({ type: Type.Literal('signal'), signal: Type.Enum(signals) }, { additionalProperties: false }),
  Type.Object({ type: Type.Literal('stop') }, { additionalProperties: false }),
]);
export type ExecClientMessage = Static<typeof ExecClientMessage>;

/**
 * The messages of the server of `exec/stream`; the last message is `exit` or `error`. Output comes as binary messages
 * instead when the client asked for them.
 */
export type ExecServerMessage =
  /** `truncated` comes to an `attach`: whether there was more before the output that follows. */
  | { type: 'start'; pid: number; truncated?: { stdout: boolean; stderr: boolean } }
  | { type: 'stdout' | 'stderr'; data: string }
  | { type: 'stdout' | 'stderr'; data_base64: string }
  | { type: 'exit'; exit_code: number; reason?: 'out_of_memory' }
  | ({ type: 'error' } & ErrorBody);
