/** A sandbox as E2B's clients read it. */
import type { SandboxStatus } from '@perch/protocol';
import type { SandboxRow } from '../database/index.ts';

/** The guest agent's version as E2B counts: clients ask it for what came with each. */
export const envdVersion = '0.6.13';

export type State = 'running' | 'paused';

/** Statuses that clients see, each by the state that it is about to be in. */
export const statesOf: Record<State, readonly SandboxStatus[]> = {
  running: ['running', 'resuming'],
  paused: ['paused', 'pausing'],
};

export function stateOf(status: SandboxStatus): State | undefined {
  if (statesOf.running.includes(status)) return 'running';
  return statesOf.paused.includes(status) ? 'paused' : undefined;
}

/** The moment that lists go by. */
export function startOf(row: SandboxRow): Date {
  return row.started_at ?? row.created_at;
}

const named = (row: SandboxRow) => ({
  sandboxID: row.id,
  templateID: row.template,
  alias: row.template,
  clientID: row.host_id,
  envdVersion,
});

/** The answer to a create, a connect and a fork: how the sandbox is reached. */
export function toAccess(row: SandboxRow, domain: string) {
  return {
    ...named(row),
    envdAccessToken: row.edge_token,
    trafficAccessToken: row.traffic_token,
    domain,
  };
}

export function toListed(row: SandboxRow) {
  // A paused one has the time at which it was paused.
  const end = row.expires_at ?? row.last_active_at ?? startOf(row);
  return {
    ...named(row),
    startedAt: startOf(row).toISOString(),
    endAt: end.toISOString(),
    state: stateOf(row.status) ?? 'running',
    cpuCount: row.vcpus,
    memoryMB: row.memory_mb,
    diskSizeMB: row.disk_mb,
    metadata: row.metadata,
    volumeMounts: [],
  };
}

export function toDetail(row: SandboxRow, domain: string) {
  const state = stateOf(row.status);
  return {
    ...toListed(row),
    envdAccessToken: row.edge_token,
    domain,
    allowInternetAccess: true,
    network: {
      allowPublicTraffic: row.traffic_token === null,
      ...(row.mask_host === null ? {} : { maskRequestHost: row.mask_host }),
    },
    lifecycle: { onTimeout: row.on_timeout === 'pause' ? 'pause' : 'kill', autoResume: row.auto_resume },
    ...(state === 'paused' ? { pauseMode: row.paused_memory ? 'full' : 'filesystem' } : {}),
  };
}
