/** Bodies of `/v1`, of what the services give. */
import { type ForkResults, PerchError, type Sandbox, type SandboxTransition } from '@perch/protocol';
import type { SandboxRow } from '../database/index.ts';
import type { Forked, Transitioned } from '../sandboxes/index.ts';

/** The row of a paused sandbox holds when its time stopped. */
function noTimeRuns({ status }: SandboxRow): boolean {
  return status === 'paused' || status === 'resuming';
}

export function toSandbox(row: SandboxRow): Sandbox {
  return {
    id: row.id,
    status: row.status,
    ...(row.status === 'failed' ? { reason: row.reason ?? 'unknown reason' } : {}),
    template: row.template,
    vcpus: row.vcpus,
    memory_mb: row.memory_mb,
    disk_mb: row.disk_mb,
    timeout_sec: row.timeout_sec,
    timeout_mode: row.timeout_mode,
    on_timeout: row.on_timeout,
    pause_memory: row.pause_memory,
    auto_resume: row.auto_resume,
    metadata: row.metadata,
    host_id: row.host_id,
    host_ip: row.host_ip,
    created_at: row.created_at.toISOString(),
    started_at: row.started_at?.toISOString() ?? null,
    last_active_at: row.last_active_at?.toISOString() ?? null,
    expires_at: noTimeRuns(row) ? null : (row.expires_at?.toISOString() ?? null),
  };
}

export function toTransition({ row, timings }: Transitioned): SandboxTransition {
  return { ...toSandbox(row), timings_ms: timings };
}

export function toForkResults({ children, timings }: Forked): ForkResults {
  const results = children.map((child) =>
    child instanceof PerchError ? { error: child.toBody().error } : { sandbox: toSandbox(child) },
  );
  return { results, timings_ms: timings };
}
