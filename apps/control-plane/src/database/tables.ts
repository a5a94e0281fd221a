import type { OnTimeout, SandboxStatus, TimeoutMode } from '@perch/protocol';
import type { ColumnType, Generated, Insertable, JSONColumnType, Selectable, Updateable } from 'kysely';

type Time = ColumnType<Date, Date, Date>;
type OptionalTime = ColumnType<Date | null, Date | null | undefined, Date | null>;

export interface ApiKeysTable {
  id: string;
  name: string;
  /** First characters of the key, to tell keys apart. */
  prefix: string;
  /** SHA-256 of the key. */
  hash: Buffer;
  created_at: Time;
  last_used_at: OptionalTime;
}

export interface SandboxesTable {
  id: string;
  status: SandboxStatus;
  reason: string | null;
  template: string;
  vcpus: number;
  memory_mb: number;
  disk_mb: number;
  timeout_sec: number;
  timeout_mode: TimeoutMode;
  on_timeout: OnTimeout;
  /** Whether the pause at the end of its time keeps the memory. */
  pause_memory: Generated<boolean>;
  /** Whether its last pause kept the memory. */
  paused_memory: Generated<boolean>;
  auto_resume: boolean;
  metadata: JSONColumnType<Record<string, string>>;
  host_id: string;
  host_ip: string | null;
  /** Life of the sandbox: every start is a new one. */
  generation: number;
  /** Of the guest agent, for this life. */
  access_token: string;
  /**
   * Of the life that a resume begins. It is kept when a resume does not succeed, so that one whose outcome is
   * unknown can be asked for again, or be found to have succeeded.
   */
  next_access_token: ColumnType<string | null, string | null | undefined, string | null>;
  /** Of the sandbox, in all its lives: its clients show it at the edge, which puts that of the life in its place. */
  edge_token: Generated<string>;
  /** Its clients show it at the edge to reach a port of a program; null: anybody may. */
  traffic_token: ColumnType<string | null, string | null | undefined, string | null>;
  /** `Host` that programs of the sandbox see, with `${PORT}` for their port; null: as it came. */
  mask_host: ColumnType<string | null, string | null | undefined, string | null>;
  created_at: Time;
  started_at: OptionalTime;
  last_active_at: OptionalTime;
  expires_at: OptionalTime;
  /** When it became failed or destroyed. */
  ended_at: OptionalTime;
}

export interface SandboxEventsTable {
  id: Generated<string>;
  sandbox_id: string;
  at: Time;
  status: SandboxStatus;
  detail: string | null;
}

export interface IdempotencyTable {
  api_key_id: string;
  key: string;
  /** SHA-256 of the request with its defaults. */
  request_hash: Buffer;
  sandbox_id: string;
  /** Whether its sandbox runs, or has run. */
  answered: boolean;
  created_at: Time;
}

export interface Tables {
  api_keys: ApiKeysTable;
  sandboxes: SandboxesTable;
  sandbox_events: SandboxEventsTable;
  idempotency_keys: IdempotencyTable;
}

export type SandboxRow = Selectable<SandboxesTable>;
export type NewSandboxRow = Insertable<SandboxesTable>;
export type SandboxChanges = Updateable<SandboxesTable>;
