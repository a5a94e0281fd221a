/** Schemas of `/v1/sandboxes`. */
import { type Static, Type } from 'typebox';
import { templateNamePattern } from './ids.ts';
import { limits } from './limits.ts';
import { sandboxStatuses } from './names.ts';

export const SandboxStatus = Type.Enum(sandboxStatuses, { $id: 'SandboxStatus' });
export type SandboxStatus = (typeof sandboxStatuses)[number];

const noNul = '^[^\\u0000]*$';

export const Metadata = Type.Record(
  Type.String({ pattern: '^[^\\u0000]{1,128}$' }),
  Type.String({ maxLength: limits.metadata.valueLength, pattern: noNul }),
  {
    maxProperties: limits.metadata.entries,
    additionalProperties: false,
    description: 'Free labels, to filter lists by.',
  },
);

export const Env = Type.Record(
  Type.String({ pattern: '^[A-Za-z_][A-Za-z0-9_]{0,255}$' }),
  Type.String({ maxLength: limits.env.valueLength, pattern: noNul }),
  { maxProperties: limits.env.entries, additionalProperties: false, description: 'Environment variables.' },
);

const timeoutSec = { minimum: limits.timeoutSec.min, maximum: limits.timeoutSec.max };

export const TimeoutMode = Type.Union([Type.Literal('idle'), Type.Literal('fixed')], {
  description: '`idle`: activity moves the end of life; `fixed`: only POST …/timeout does.',
});
export type TimeoutMode = 'idle' | 'fixed';

export const OnTimeout = Type.Union([Type.Literal('destroy'), Type.Literal('pause')], {
  description: 'The end of its time does this. A pause that fails is tried again; it never destroys.',
});
export type OnTimeout = 'destroy' | 'pause';

const PauseMemory = Type.Boolean({
  description:
    'Whether a pause at the end of its time keeps the memory. Without it a resume boots the guest from its disk, which must be asked for: it does not go with `auto_resume`.',
});

const AutoResume = Type.Boolean({
  description:
    'Whether the first command or file transfer that needs it, while it is paused, resumes it; not one that was paused without memory.',
});

export const CreateSandbox = Type.Object(
  {
    template: Type.Optional(
      Type.String({ pattern: templateNamePattern, default: 'base', description: 'It starts from this.' }),
    ),
    vcpus: Type.Optional(
      Type.Integer({ minimum: limits.vcpus.min, maximum: limits.vcpus.max, default: limits.vcpus.default }),
    ),
    memory_mb: Type.Optional(
      Type.Integer({
        minimum: limits.memoryMb.min,
        maximum: limits.memoryMb.max,
        default: limits.memoryMb.default,
        description: 'Guest memory, MiB.',
      }),
    ),
    disk_mb: Type.Optional(
      Type.Integer({
        minimum: limits.diskMb.min,
        maximum: limits.diskMb.max,
        default: limits.diskMb.default,
        description: 'Size of the root disk and its quota on the host, MiB.',
      }),
    ),
    timeout_sec: Type.Optional(
      Type.Integer({ ...timeoutSec, default: limits.timeoutSec.default, description: 'Life, seconds.' }),
    ),
    timeout_mode: Type.Optional(TimeoutMode),
    on_timeout: Type.Optional({ ...OnTimeout, default: 'destroy' }),
    pause_memory: Type.Optional({ ...PauseMemory, default: true }),
    auto_resume: Type.Optional({ ...AutoResume, default: false }),
    metadata: Type.Optional(Metadata),
    env: Type.Optional(Env),
  },
  { $id: 'CreateSandbox', additionalProperties: false },
);
export type CreateSandbox = Static<typeof CreateSandbox>;

const Time = Type.String({ format: 'date-time', description: 'RFC 3339, UTC.' });

export const Sandbox = Type.Object(
  {
    id: Type.String(),
    status: SandboxStatus,
    reason: Type.Optional(Type.String({ description: 'Why it failed; present when status is failed.' })),
    template: Type.String(),
    vcpus: Type.Integer(),
    memory_mb: Type.Integer(),
    disk_mb: Type.Integer(),
    timeout_sec: Type.Integer(),
    timeout_mode: TimeoutMode,
    on_timeout: OnTimeout,
    pause_memory: PauseMemory,
    auto_resume: AutoResume,
    metadata: Type.Record(Type.String(), Type.String()),
    host_id: Type.String(),
    host_ip: Type.Union([Type.String(), Type.Null()], {
      description: 'Slot address of the sandbox on its host; null while it has none.',
    }),
    created_at: Time,
    started_at: Type.Union([Time, Type.Null()]),
    last_active_at: Type.Union([Time, Type.Null()]),
    expires_at: Type.Union([Time, Type.Null()], {
      description: 'End of its time; null while it has none, as when it is paused.',
    }),
  },
  { $id: 'Sandbox' },
);
export type Sandbox = Static<typeof Sandbox>;

/** A sandbox after a transition, with what each stage of it took. */
export const SandboxTransition = Type.Object(
  {
    ...Sandbox.properties,
    timings_ms: Type.Record(Type.String(), Type.Number(), {
      description: 'Milliseconds of each stage, and `total`.',
    }),
  },
  { $id: 'SandboxTransition' },
);
export type SandboxTransition = Static<typeof SandboxTransition>;

/** Body of a pause; none at all is as good as an empty one. */
export const PauseSandbox = Type.Object(
  {
    memory: Type.Optional(
      Type.Boolean({
        default: true,
        description:
          'Whether its memory is kept. Without it the disk is: processes are gone, and what begins from it is a guest that is booted from that disk.',
      }),
    ),
  },
  { $id: 'PauseSandbox', additionalProperties: false },
);
export type PauseSandbox = Static<typeof PauseSandbox>;

/** `metadata.KEY=VALUE` filters are further query parameters, checked by the route. */
export const ListSandboxesQuery = Type.Object({
  status: Type.Optional(
    Type.String({ description: 'One status, or several with commas. `destroyed` must be asked for.' }),
  ),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 50 })),
  cursor: Type.Optional(Type.String({ maxLength: 512 })),
});

export const SandboxList = Type.Object(
  {
    items: Type.Array(Sandbox),
    next_cursor: Type.Union([Type.String(), Type.Null()], {
      description:
        'Null on the last page alone. A page may have fewer items than `limit`: it ends with 4 MiB of labels.',
    }),
  },
  { $id: 'SandboxList' },
);
export type SandboxList = Static<typeof SandboxList>;

export const SetTimeout = Type.Object(
  { timeout_sec: Type.Integer(timeoutSec) },
  { $id: 'SetTimeout', additionalProperties: false },
);
export type SetTimeout = Static<typeof SetTimeout>;

export const SandboxLogs = Type.Object(
  {
    events: Type.Array(
      Type.Object({ at: Time, status: SandboxStatus, detail: Type.Union([Type.String(), Type.Null()]) }),
    ),
    console: Type.String({
      description: 'The last of the guest console; bytes that are no text are replaced.',
    }),
  },
  { $id: 'SandboxLogs' },
);
export type SandboxLogs = Static<typeof SandboxLogs>;
