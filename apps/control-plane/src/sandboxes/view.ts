import type { Sandbox } from '@perch/protocol';
import type { SandboxRow } from '../database/index.ts';
import type { Life } from './life.ts';

/** The row of a paused sandbox holds when its time stopped. */
function noTimeRuns({ status }: SandboxRow): boolean {
  return status === 'paused' || status === 'resuming';
}

/** The public form of a row; `life` knows activity that the database does not hold yet. */
export function toSandbox(row: SandboxRow, life?: Life): Sandbox {
  const fresh = life?.status === row.status && life.generation === row.generation ? life : undefined;
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
    last_active_at: (fresh?.lastActiveAt ?? row.last_active_at)?.toISOString() ?? null,
    expires_at: noTimeRuns(row) ? null : ((fresh?.expiresAt ?? row.expires_at)?.toISOString() ?? null),
  };
}
