/**
 * The API of the host agent, HTTP and JSON on a unix socket. Its clients are the control plane, and root.
 *
 * | call | answer |
 * |---|---|
 * | `GET /v1/host` | HostInfo |
 * | `GET /v1/sandboxes` | HostSandboxList |
 * | `PUT /v1/sandboxes/{id}` HostCreate | 201 HostSandbox once it runs; the same call again gives the same sandbox |
 * | `GET /v1/sandboxes/{id}` | HostSandbox |
 * | `DELETE /v1/sandboxes/{id}` | 204 once nothing of it is left; 404 when unknown |
 * | `POST /v1/sandboxes/{id}/pause` HostPause | 200 HostSandbox once it is paused; of a paused one the same again |
 * | `POST /v1/sandboxes/{id}/resume` HostResume | 200 HostSandbox once it runs; the same call again gives the same |
 * | `POST /v1/sandboxes/{id}/fork` HostFork | 200 HostForked once every child runs or failed; the source is as before |
 * | `GET /v1/sandboxes/{id}/history` | SandboxHistory |
 * | `POST /v1/snapshots` HostSnapshotCreate | 201 NewSnapshot once it is there for good; the sandbox is as before |
 * | `POST /v1/snapshots/import` HostSnapshotImport | 201 HostImported once it is there for good; only for root |
 * | `GET /v1/snapshots` | HostSnapshotList, images too, by name |
 * | `GET /v1/snapshots/{name}` | Snapshot |
 * | `POST /v1/snapshots/{name}/flatten` | 200 Snapshot, whose disk stands alone; of one that does already the same |
 * | `POST /v1/snapshots/{name}/convert` ConvertSnapshot | 200 Snapshot with layers of that format, or standing alone |
 * | `DELETE /v1/snapshots/{name}` | 204 once it is gone; 404 when unknown |
 * | `GET /v1/ready` | ReadyGuestsList |
 * | `PUT /v1/ready` HostPinReady | 200 ReadyGuests; the guests come in the background |
 * | `GET /v1/sandboxes/{id}/console` | `application/octet-stream`, the last of the console |
 * | `GET /v1/events` | `application/x-ndjson`, HostEvent a line: every sandbox, `synced`, then each change |
 * | `POST /v1/fsck` HostFsck | FsckFindings, once every byte of every snapshot was read |
 * | `POST /v1/shutdown` HostShutdown | 204, then the process ends |
 * | `GET /metrics` | Prometheus text |
 *
 * Errors have the body and the codes of the public API. `X-Request-Id` is taken over into the log.
 */
import { type Static, Type } from 'typebox';
import { ErrorBody } from './error-body.ts';
import { accessTokenPattern, sandboxIdPattern, templateNamePattern } from './ids.ts';
import { limits } from './limits.ts';
import { HostMachine, MonitorIdentity } from './machine.ts';
import { Template } from './platform.ts';
import { Env, SandboxStatus } from './sandbox.ts';
import { maxForks, Snapshot, SnapshotName } from './snapshot.ts';

export const HostCreate = Type.Object(
  {
    generation: Type.Integer({ minimum: 1, description: 'Life of the sandbox; every start is a new one.' }),
    template: Type.String({
      pattern: templateNamePattern,
      description: 'An image, or a snapshot whose shape the sandbox has then.',
    }),
    vcpus: Type.Integer({ minimum: limits.vcpus.min, maximum: limits.vcpus.max }),
    memory_mb: Type.Integer({ minimum: limits.memoryMb.min, maximum: limits.memoryMb.max }),
    disk_mb: Type.Integer({ minimum: limits.diskMb.min, maximum: limits.diskMb.max }),
    access_token: Type.String({
      pattern: accessTokenPattern,
      description: 'Of the guest agent, for this life.',
    }),
    env: Env,
  },
  { additionalProperties: false },
);
export type HostCreate = Static<typeof HostCreate>;

export const HostPause = Type.Object(
  {
    generation: Type.Integer({ minimum: 1, description: 'Life that is to be paused.' }),
    memory: Type.Optional(Type.Boolean({ description: 'Whether its memory is kept; default: true.' })),
  },
  { additionalProperties: false },
);
export type HostPause = Static<typeof HostPause>;

export const HostResume = Type.Object(
  {
    generation: Type.Integer({ minimum: 2, description: 'Of the life that begins: one more than the last.' }),
    access_token: HostCreate.properties.access_token,
    checkpoint: Type.Optional(
      Type.Integer({ minimum: 0, description: 'Checkpoint of its history; default: the last.' }),
    ),
    memory: Type.Optional(
      Type.Boolean({ description: 'Whether it goes on with its memory, if there is some; default: true.' }),
    ),
  },
  { additionalProperties: false },
);
export type HostResume = Static<typeof HostResume>;

export const HostFork = Type.Object(
  {
    generation: Type.Integer({ minimum: 1, description: 'Life of the source, which runs or is paused.' }),
    checkpoint: HostResume.properties.checkpoint,
    children: Type.Array(
      Type.Object(
        {
          id: Type.String({ pattern: sandboxIdPattern }),
          access_token: HostCreate.properties.access_token,
        },
        { additionalProperties: false },
      ),
      { minItems: 1, maxItems: maxForks, description: 'In their first life, of the shape of the source.' },
    ),
  },
  { additionalProperties: false },
);
export type HostFork = Static<typeof HostFork>;

export const HostSnapshotCreate = Type.Object(
  {
    name: SnapshotName,
    sandbox_id: Type.String({ pattern: sandboxIdPattern }),
    generation: Type.Integer({ minimum: 1, description: 'Life of the sandbox, which runs or is paused.' }),
    overwrite: Type.Boolean({ description: 'Whether it takes the place of one of that name.' }),
    memory: Type.Optional(Type.Boolean({ description: 'Whether it has the memory; default: true.' })),
  },
  { additionalProperties: false },
);
export type HostSnapshotCreate = Static<typeof HostSnapshotCreate>;

const ContentId = Type.String({ pattern: '^[0-9a-f]{64}$', description: 'SHA-256.' });

/** The facts that a directory without a manifest does not say; those that are left out are this host's. */
export const ImportFacts = Type.Object(
  {
    vcpus: Type.Optional(HostCreate.properties.vcpus),
    monitor: Type.Optional(MonitorIdentity),
    cpu: Type.Optional(
      Type.String({ minLength: 1, maxLength: 16_384, description: 'Fingerprint of the processor.' }),
    ),
    kernel_content_id: Type.Optional(ContentId),
    initramfs_content_id: Type.Optional(ContentId),
  },
  { additionalProperties: false },
);
export type ImportFacts = Static<typeof ImportFacts>;

export const HostSnapshotImport = Type.Object(
  {
    name: SnapshotName,
    overwrite: HostSnapshotCreate.properties.overwrite,
    directory: Type.String({ pattern: '^/', maxLength: 4096, description: 'Absolute path on this host.' }),
    facts: ImportFacts,
    access_token: Type.Optional(
      Type.String({ minLength: 1, maxLength: 1024, description: 'Of its guest agent.' }),
    ),
  },
  { additionalProperties: false },
);
export type HostSnapshotImport = Static<typeof HostSnapshotImport>;

export const HostImported = Type.Object({
  snapshot: Snapshot,
  assumed: Type.Array(Type.Object({ fact: Type.String(), value: Type.String() }), {
    description: 'Neither the directory nor the request said it.',
  }),
});
export type HostImported = Static<typeof HostImported>;

export const HostSnapshotList = Type.Object({ items: Type.Array(Snapshot) });

export const HostSandboxParams = Type.Object({ id: Type.String({ pattern: sandboxIdPattern }) });

export const HostSandbox = Type.Object({
  id: Type.String(),
  generation: Type.Integer(),
  status: SandboxStatus,
  reason: Type.Optional(Type.String()),
  template: Type.String(),
  vcpus: Type.Integer(),
  memory_mb: Type.Integer(),
  disk_mb: Type.Integer(),
  address: Type.Union([Type.String(), Type.Null()], { description: 'Slot address; null while it has none.' }),
  changed_at: Type.String({ format: 'date-time' }),
  timings_ms: Type.Record(Type.String(), Type.Number(), { description: 'Stages of the last transition.' }),
});
export type HostSandbox = Static<typeof HostSandbox>;

export const HostForked = Type.Object({
  results: Type.Array(
    Type.Union([
      Type.Object({ sandbox: HostSandbox }),
      Type.Object({ id: Type.String(), error: ErrorBody.properties.error }),
    ]),
    { description: 'One for each child, in the order that was asked for.' },
  ),
  timings_ms: HostSandbox.properties.timings_ms,
});
export type HostForked = Static<typeof HostForked>;

export const HostSandboxList = Type.Object({ items: Type.Array(HostSandbox) });
export type HostSandboxList = Static<typeof HostSandboxList>;

export const HostEvent = Type.Union([
  Type.Object({ type: Type.Literal('sandbox'), sandbox: HostSandbox }),
  Type.Object({ type: Type.Literal('synced') }),
  Type.Object({ type: Type.Literal('heartbeat') }),
]);
/** A destroyed sandbox is told once, with status `destroyed`. Heartbeats come every 5 s. */
export type HostEvent = Static<typeof HostEvent>;

export const HostInfo = Type.Object({
  host_id: Type.String(),
  instance: Type.String({ description: 'Short id of the data directory, part of every resource name.' }),
  version: Type.String(),
  ready: Type.Boolean({ description: 'A sandbox can be created, where there is room for it.' }),
  problems: Type.Array(Type.String()),
  machine: HostMachine,
  why: Type.String({ description: 'Findings when the accelerator was chosen.' }),
  memory_mb: Type.Object({ total: Type.Integer(), free: Type.Integer() }),
  disk_mb: Type.Object({ total: Type.Integer(), free: Type.Integer() }),
  lacks: Type.Array(Type.Union([Type.Literal('memory'), Type.Literal('disk')]), {
    description: 'There is too little of it for the smallest sandbox.',
  }),
  slots: Type.Object({ total: Type.Integer(), used: Type.Integer(), ready: Type.Integer() }),
  templates: Type.Array(Template),
});
export type HostInfo = Static<typeof HostInfo>;

export const HostShutdown = Type.Object(
  { remove: Type.Boolean({ description: 'Destroy all sandboxes and take down the slots first.' }) },
  { additionalProperties: false },
);
export type HostShutdown = Static<typeof HostShutdown>;

export const HostFsck = Type.Object(
  { repair: Type.Boolean({ description: 'Remove what nobody owns or needs.' }) },
  { additionalProperties: false },
);
export type HostFsck = Static<typeof HostFsck>;

export const FsckFinding = Type.Object({
  what: Type.String({ description: 'Path, or kind and name.' }),
  problem: Type.String(),
  remedy: Type.String(),
  repaired: Type.Boolean(),
});
export type FsckFinding = Static<typeof FsckFinding>;

export const FsckFindings = Type.Object({ findings: Type.Array(FsckFinding) });
export type FsckFindings = Static<typeof FsckFindings>;
