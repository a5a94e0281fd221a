/** Schemas of `/v1/snapshots`, of forks and of the history of a sandbox. */
import { type Static, Type } from 'typebox';
import { ErrorBody } from './error-body.ts';
import { sandboxIdPattern, templateNamePattern } from './ids.ts';
import { DiskFormat, LayerFormat } from './machine.ts';
import { ListSandboxesQuery, PauseSandbox, Sandbox } from './sandbox.ts';

const Time = Type.String({ format: 'date-time', description: 'RFC 3339, UTC.' });
const Bytes = (description: string) => Type.Integer({ minimum: 0, description });
const Timings = Type.Record(Type.String(), Type.Number(), { description: 'Milliseconds of each stage.' });

/** Children that one call can make. */
export const maxForks = 100;

export const SnapshotName = Type.String({ pattern: templateNamePattern, description: 'Name of a snapshot.' });
export const SnapshotParams = Type.Object({ name: SnapshotName });

export const SnapshotType = Type.Union([Type.Literal('base'), Type.Literal('snapshot')], {
  description: '`base`: an image that guests boot from; `snapshot`: a sandbox as it was, or its disk alone.',
});
export type SnapshotType = Static<typeof SnapshotType>;

const sizes = {
  size_bytes: Bytes('Space that it occupies, with what it shares.'),
  own_bytes: Bytes('They go when it goes.'),
  shared_bytes: Bytes('Others need them too, and they stay.'),
};

const HasMemory = Type.Boolean({
  description: 'Whether processes go on in what begins from it. Else a guest is booted from its disk.',
});

/** Something that a sandbox can be created from. */
export const Snapshot = Type.Object(
  {
    name: Type.String(),
    type: SnapshotType,
    template: Type.String({ description: 'Name of the image below its disk.' }),
    vcpus: Type.Union([Type.Integer(), Type.Null()], { description: 'Null for an image.' }),
    memory_mb: Type.Union([Type.Integer(), Type.Null()], { description: 'Null for an image.' }),
    disk_mb: Type.Integer(),
    ...sizes,
    standalone: Type.Boolean({ description: 'Whether its disk is one file that needs no image below it.' }),
    disk_format: {
      ...DiskFormat,
      description:
        '`image`: its disk stands alone; else the format of the layers over an image, which is that of the kind of disk that wrote them.',
    },
    memory: HasMemory,
    sandbox_id: Type.Union([Type.String(), Type.Null()], { description: 'It was taken of this one.' }),
    created_at: Time,
  },
  { $id: 'Snapshot' },
);
export type Snapshot = Static<typeof Snapshot>;
export const ListSnapshotsQuery = Type.Object(
  {
    type: Type.Optional(SnapshotType),
    limit: ListSandboxesQuery.properties.limit,
    cursor: ListSandboxesQuery.properties.cursor,
  },
  { additionalProperties: false },
);

export const SnapshotList = Type.Object(
  { items: Type.Array(Snapshot), next_cursor: Type.Union([Type.String(), Type.Null()]) },
  { $id: 'SnapshotList' },
);
export type SnapshotList = Static<typeof SnapshotList>;

export const CreateSnapshot = Type.Object(
  {
    sandbox_id: Type.String({ pattern: sandboxIdPattern }),
    name: Type.Optional({ ...SnapshotName, description: 'Default: `snap-` and eight characters.' }),
    memory: PauseSandbox.properties.memory,
  },
  { $id: 'CreateSnapshot', additionalProperties: false },
);
export type CreateSnapshot = Static<typeof CreateSnapshot>;

export const ConvertSnapshot = Type.Object(
  { to: { ...LayerFormat, description: 'Format that the layers of its disk shall have.' } },
  { $id: 'ConvertSnapshot', additionalProperties: false },
);
export type ConvertSnapshot = Static<typeof ConvertSnapshot>;

export const NewSnapshot = Type.Object(
  { ...Snapshot.properties, timings_ms: Timings },
  { $id: 'NewSnapshot' },
);
export type NewSnapshot = Static<typeof NewSnapshot>;

/** A state of a sandbox that is kept: what a pause or a snapshot of it wrote. */
export const Checkpoint = Type.Object(
  {
    checkpoint: Type.Integer({ minimum: 0, description: '0: what the sandbox was created from.' }),
    parent: Type.Union([Type.Integer(), Type.Null()], {
      description: 'The checkpoint that its life went on from; null when that is not kept.',
    }),
    kind: Type.Union([Type.Literal('start'), Type.Literal('pause'), Type.Literal('snapshot')]),
    memory: HasMemory,
    created_at: Time,
    ...sizes,
  },
  { $id: 'Checkpoint' },
);
export type Checkpoint = Static<typeof Checkpoint>;

export const SandboxHistory = Type.Object(
  {
    items: Type.Array(Checkpoint, { description: 'The oldest first.' }),
    own_bytes: Bytes('They go when the sandbox goes.'),
    shared_bytes: Bytes('Others need them too.'),
  },
  { $id: 'SandboxHistory' },
);
export type SandboxHistory = Static<typeof SandboxHistory>;

const FromCheckpoint = Type.Optional(
  Type.Integer({ minimum: 0, description: 'Of its history; default: as it is now.' }),
);

export const ResumeSandbox = Type.Object(
  {
    checkpoint: FromCheckpoint,
    memory: Type.Optional(
      Type.Boolean({
        default: true,
        description:
          'Whether it goes on with its memory, if that was kept. Without it the guest is booted from its disk, and what programs had not written out is lost.',
      }),
    ),
  },
  { $id: 'ResumeSandbox', additionalProperties: false },
);
export type ResumeSandbox = Static<typeof ResumeSandbox>;

export const ForkSandbox = Type.Object(
  {
    count: Type.Optional(Type.Integer({ minimum: 1, maximum: maxForks, default: 1 })),
    checkpoint: FromCheckpoint,
  },
  { $id: 'ForkSandbox', additionalProperties: false },
);
export type ForkSandbox = Static<typeof ForkSandbox>;

export const ForkResults = Type.Object(
  {
    results: Type.Array(
      Type.Union([Type.Object({ sandbox: Sandbox }), Type.Object({ error: ErrorBody.properties.error })]),
    ),
    timings_ms: Timings,
  },
  { $id: 'ForkResults' },
);
export type ForkResults = Static<typeof ForkResults>;
