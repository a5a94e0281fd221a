/** Schemas of `…/commands`: what was started in a sandbox, whoever follows it. */
import { type Static, Type } from 'typebox';
import { ExitReason, OutputEncoding } from './exec.ts';

const Time = Type.String({ format: 'date-time', description: 'RFC 3339, UTC, by the clock of the guest.' });

export const CommandStatus = Type.Enum(['running', 'ended'], { $id: 'CommandStatus' });
export type CommandStatus = Static<typeof CommandStatus>;

export const Command = Type.Object(
  {
    pid: Type.Integer({ minimum: 1, description: 'In the sandbox.' }),
    status: CommandStatus,
    cmd: Type.String(),
    args: Type.Array(Type.String(), { description: 'Of long ones the beginning: 1 KiB with `cmd`.' }),
    exit_code: Type.Union([Type.Integer(), Type.Null()], {
      description: '128 + n: ended by signal n. Null while it runs.',
    }),
    reason: ExitReason,
    started_at: Time,
    ended_at: Type.Union([Time, Type.Null()]),
  },
  { $id: 'Command' },
);
export type Command = Static<typeof Command>;

const kept = 'The last 64 KiB of the stream, less when very many commands have much.';

export const CommandWithOutput = Type.Object(
  {
    ...Command.properties,
    stdout: Type.String({ description: kept }),
    stderr: Type.String({ description: kept }),
    encoding: Type.Object({ stdout: OutputEncoding, stderr: OutputEncoding }),
    truncated: Type.Object(
      { stdout: Type.Boolean(), stderr: Type.Boolean() },
      { description: 'There was more before it.' },
    ),
  },
  { $id: 'CommandWithOutput' },
);
export type CommandWithOutput = Static<typeof CommandWithOutput>;

export const CommandList = Type.Object(
  {
    items: Type.Array(Command),
    next_cursor: Type.Union([Type.String(), Type.Null()], { description: 'Null on the last page.' }),
  },
  { $id: 'CommandList' },
);
export type CommandList = Static<typeof CommandList>;

export const ListCommandsQuery = Type.Object(
  {
    status: Type.Optional(CommandStatus),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 50 })),
    cursor: Type.Optional(Type.String({ maxLength: 128, description: 'next_cursor of the page before.' })),
  },
  { additionalProperties: false },
);
