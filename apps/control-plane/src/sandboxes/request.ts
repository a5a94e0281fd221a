import { type CreateSandbox, limits, PerchError, type Snapshot, type Template } from '@perch/protocol';
import type { NewSandboxRow } from '../database/index.ts';
import type { Source } from '../hosts/index.ts';

/** A create with every default filled in. */
export type FullRequest = Required<CreateSandbox>;

/** @throws PerchError validation_failed for fields that do not go together */
export function withDefaults(request: CreateSandbox): FullRequest {
  if (request.auto_resume && request.pause_memory === false) {
    const message =
      'does not go with auto_resume: a sandbox without memory is resumed only when that is asked for';
    throw new PerchError('validation_failed', `pause_memory ${message}.`, {
      problems: [{ where: 'pause_memory', message }],
    });
  }
  return {
    template: request.template ?? 'base',
    vcpus: request.vcpus ?? limits.vcpus.default,
    memory_mb: request.memory_mb ?? limits.memoryMb.default,
    disk_mb: request.disk_mb ?? limits.diskMb.default,
    timeout_sec: request.timeout_sec ?? limits.timeoutSec.default,
    timeout_mode: request.timeout_mode ?? 'idle',
    on_timeout: request.on_timeout ?? 'destroy',
    pause_memory: request.pause_memory ?? true,
    auto_resume: request.auto_resume ?? false,
    metadata: request.metadata ?? {},
    env: request.env ?? {},
  };
}

/** Who reaches the ports of its programs, and how. Without any: whoever has the token of the sandbox for it. */
export interface EdgeSettings {
  /** Anybody may. */
  publicTraffic: boolean;
  maskHost: string | null;
}

export function edgeColumns(
  edge: EdgeSettings | undefined,
): Pick<NewSandboxRow, 'traffic_token' | 'mask_host'> {
  if (!edge) return {};
  return { mask_host: edge.maskHost, ...(edge.publicTraffic ? { traffic_token: null } : {}) };
}

/**
 * The machine of a sandbox that starts from `source`: of an image as it was asked for, of a snapshot its own.
 * @throws PerchError disk_too_small, shape_mismatch
 */
export function withMachine(full: FullRequest, asked: CreateSandbox, source: Source): FullRequest {
  if ('snapshot' in source) return { ...full, ...machineOf(source.snapshot, asked) };
  assertDisk(full, source.image);
  return full;
}

function assertDisk({ disk_mb }: FullRequest, { name, disk_mb: minimum_mb }: Template): void {
  if (disk_mb >= minimum_mb) return;
  throw new PerchError(
    'disk_too_small',
    `disk_mb must be at least ${minimum_mb} for template "${name}", got ${disk_mb}`,
    { disk_mb, minimum_mb },
  );
}

function machineOf(snapshot: Snapshot, asked: CreateSandbox) {
  const { vcpus, memory_mb, disk_mb } = snapshot;
  if (vcpus === null || memory_mb === null) throw new Error(`The snapshot ${snapshot.name} has no machine.`);
  const machine = { vcpus, memory_mb, disk_mb };
  const differs = Object.entries(machine).some(
    ([field, value]) => (asked[field as keyof typeof machine] ?? value) !== value,
  );
  if (!differs) return machine;
  throw new PerchError(
    'shape_mismatch',
    `The snapshot "${snapshot.name}" is of a machine with ${vcpus} vcpus, ${memory_mb} MiB of memory and ${disk_mb} MiB of disk.`,
    { template: snapshot.name, ...machine },
  );
}
