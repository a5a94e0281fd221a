/** The meaning of a host agent's error for the sandbox that a call was about. A new code has to say it for each call. */
import { type ErrorCode, PerchError } from './errors.ts';

/** `nothing`: nothing was made, so nothing is left to remove. */
export type CreateFailure = 'nothing' | 'unknown';
/** `running`: it runs as before. `failed`: its machine has ended. */
export type PauseFailure = 'running' | 'failed' | 'unknown';
/** `paused`: it is paused as before. */
export type ResumeFailure = 'paused' | 'failed' | 'unknown';

interface Meaning {
  create: CreateFailure;
  pause: PauseFailure;
  resume: ResumeFailure;
}

/** Says nothing of what became of the call, or never comes from a host. */
const unknown: Meaning = { create: 'unknown', pause: 'unknown', resume: 'unknown' };
/** Refused before anything of a create, or of a whole fork, was made. */
const notMade: Meaning = { ...unknown, create: 'nothing' };

const meanings: Record<ErrorCode, Meaning> = {
  capacity_exhausted: { create: 'nothing', pause: 'running', resume: 'paused' },
  host_disk_full: { create: 'nothing', pause: 'running', resume: 'paused' },
  snapshot_damaged: { create: 'nothing', pause: 'unknown', resume: 'paused' },
  checkpoint_not_found: { create: 'nothing', pause: 'unknown', resume: 'paused' },
  pause_failed: { ...unknown, pause: 'running' },
  resume_failed: { ...unknown, resume: 'paused' },
  sandbox_failed: { create: 'unknown', pause: 'failed', resume: 'failed' },
  template_not_found: notMade,
  image_damaged: notMade,
  disk_too_small: notMade,
  shape_mismatch: notMade,
  fork_failed: notMade,
  conversion_failed: notMade,
  // Of the source of a fork.
  sandbox_not_found: notMade,
  sandbox_not_running: notMade,
  validation_failed: notMade,
  malformed_body: unknown,
  malformed_request: unknown,
  headers_too_large: unknown,
  request_timeout: unknown,
  body_too_large: unknown,
  unsupported_media_type: unknown,
  unauthorized: unknown,
  origin_refused: unknown,
  route_not_found: unknown,
  method_not_allowed: unknown,
  rate_limited: unknown,
  idempotency_mismatch: unknown,
  sandbox_exists: unknown,
  sandbox_not_paused: unknown,
  snapshot_failed: unknown,
  snapshot_not_found: unknown,
  snapshot_exists: unknown,
  snapshot_in_use: unknown,
  import_refused: unknown,
  too_many_ready: unknown,
  root_only: unknown,
  api_key_not_found: unknown,
  last_api_key: unknown,
  // It goes on, and its status shows what became of it.
  cleanup_delayed: unknown,
  host_unavailable: unknown,
  database_unavailable: unknown,
  guest_unavailable: unknown,
  guest_protocol: unknown,
  agent_too_old: unknown,
  sandbox_busy: unknown,
  exec_timeout: unknown,
  command_not_found: unknown,
  stdin_not_open: unknown,
  invalid_user: unknown,
  invalid_cwd: unknown,
  file_not_found: unknown,
  file_exists: unknown,
  not_a_file: unknown,
  not_a_directory: unknown,
  permission_denied: unknown,
  disk_full: unknown,
  path_busy: unknown,
  directory_not_empty: unknown,
  read_only_file_system: unknown,
  unsupported_by_file_system: unknown,
  file_io_failed: unknown,
  sandbox_out_of_resources: unknown,
  events_lost: unknown,
  port_closed: unknown,
  transfer_interrupted: unknown,
  ticket_invalid: unknown,
  shutting_down: unknown,
  internal: unknown,
};

/** Of an error that is none of ours, such as a broken connection, nothing is known. */
export function meaningOf<C extends keyof Meaning>(call: C, error: unknown): Meaning[C] {
  if (!(error instanceof PerchError)) return unknown[call];
  const code: ErrorCode = error.code;
  return meanings[code][call];
}
