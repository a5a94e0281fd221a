/**
 * Every error that leaves a Perch daemon. A new code does not compile until it has a context type,
 * an HTTP status, a remedy and a description (error-descriptions/); `npm run docs` then writes docs/ERRORS.md.
 */
import type { ErrorBody } from './error-body.ts';

/** The shape of `error.details`. Plain JSON; never a secret. */
export interface ErrorContexts {
  validation_failed: { problems: { where: string; message: string }[] };
  malformed_body: { reason: string };
  malformed_request: { reason: string };
  headers_too_large: Record<string, never>;
  request_timeout: Record<string, never>;
  body_too_large: { limit_bytes: number };
  unsupported_media_type: { content_type: string; accept_encoding?: string };
  unauthorized: Record<string, never>;
  origin_refused: { origin: string };
  route_not_found: { method: string; path: string };
  method_not_allowed: { method: string; allow: string[] };
  rate_limited: { retry_after_sec: number };
  idempotency_mismatch: { key: string };
  sandbox_not_found: { id: string };
  sandbox_not_running: { id: string; status: string };
  sandbox_failed: { id: string; reason: string };
  sandbox_exists: { id: string };
  sandbox_not_paused: { id: string; status: string };
  pause_failed: { id: string; reason: string };
  resume_failed: { id: string; reason: string };
  snapshot_damaged: { id: string; reason: string };
  snapshot_failed: { id: string; reason: string };
  snapshot_not_found: { name: string };
  snapshot_exists: { name: string };
  snapshot_in_use: { name: string; by: string };
  import_refused: { directory: string; reason: string };
  conversion_failed: { id: string; reason: string };
  root_only: { uid: number };
  shape_mismatch: { template: string; vcpus: number; memory_mb: number; disk_mb: number };
  fork_failed: { id: string; reason: string };
  checkpoint_not_found: { id: string; checkpoint: number };
  template_not_found: { template: string };
  image_damaged: { template: string; reason: string };
  api_key_not_found: { id: string };
  last_api_key: { id: string };
  disk_too_small: { disk_mb: number; minimum_mb: number };
  capacity_exhausted: { resource: 'memory' | 'disk' | 'slots'; requested: number; available: number };
  too_many_ready: { requested: number; limit: number };
  host_disk_full: Record<string, never>;
  cleanup_delayed: { id: string; reason: string };
  host_unavailable: { host_id: string };
  database_unavailable: Record<string, never>;
  guest_unavailable: { id: string };
  guest_protocol: { id: string; problem: string };
  agent_too_old: { id: string };
  sandbox_busy: { id: string; limit: number };
  exec_timeout: {
    timeout_sec: number;
    stdout: string;
    stderr: string;
    encoding: { stdout: string; stderr: string };
    truncated: { stdout: boolean; stderr: boolean };
  };
  command_not_found: { id: string; pid: number };
  stdin_not_open: { pid: number };
  invalid_user: { user: string };
  invalid_cwd: { cwd: string };
  file_not_found: { path: string };
  file_exists: { path: string };
  not_a_file: { path: string };
  not_a_directory: { path: string };
  permission_denied: { path: string };
  disk_full: { path: string };
  path_busy: { path: string };
  directory_not_empty: { path: string };
  read_only_file_system: { path: string };
  unsupported_by_file_system: { path: string; problem: string };
  file_io_failed: { path: string; problem: string };
  sandbox_out_of_resources: { path: string; problem: string };
  events_lost: { path: string };
  port_closed: { id: string; port: number };
  transfer_interrupted: { path: string };
  ticket_invalid: Record<string, never>;
  shutting_down: Record<string, never>;
  internal: { request_id?: string };
}

export type ErrorCode = keyof ErrorContexts;

/** HTTP status of each code. */
export const errorStatus: Record<ErrorCode, number> = {
  validation_failed: 400,
  malformed_body: 400,
  malformed_request: 400,
  headers_too_large: 431,
  request_timeout: 408,
  body_too_large: 413,
  unsupported_media_type: 415,
  unauthorized: 401,
  origin_refused: 403,
  route_not_found: 404,
  method_not_allowed: 405,
  rate_limited: 429,
  idempotency_mismatch: 422,
  sandbox_not_found: 404,
  sandbox_not_running: 409,
  sandbox_failed: 409,
  sandbox_exists: 409,
  sandbox_not_paused: 409,
  pause_failed: 500,
  resume_failed: 500,
  snapshot_damaged: 500,
  snapshot_failed: 500,
  snapshot_not_found: 404,
  snapshot_exists: 409,
  snapshot_in_use: 409,
  import_refused: 400,
  conversion_failed: 500,
  root_only: 403,
  shape_mismatch: 400,
  fork_failed: 500,
  checkpoint_not_found: 404,
  template_not_found: 404,
  image_damaged: 500,
  api_key_not_found: 404,
  last_api_key: 409,
  disk_too_small: 400,
  capacity_exhausted: 503,
  too_many_ready: 409,
  host_disk_full: 507,
  cleanup_delayed: 503,
  host_unavailable: 503,
  database_unavailable: 503,
  guest_unavailable: 502,
  guest_protocol: 502,
  agent_too_old: 409,
  sandbox_busy: 429,
  exec_timeout: 504,
  command_not_found: 404,
  stdin_not_open: 409,
  invalid_user: 400,
  invalid_cwd: 400,
  file_not_found: 404,
  file_exists: 409,
  not_a_file: 400,
  not_a_directory: 400,
  permission_denied: 403,
  disk_full: 507,
  path_busy: 409,
  directory_not_empty: 409,
  read_only_file_system: 403,
  unsupported_by_file_system: 422,
  file_io_failed: 422,
  sandbox_out_of_resources: 503,
  events_lost: 409,
  port_closed: 502,
  transfer_interrupted: 502,
  ticket_invalid: 401,
  shutting_down: 503,
  internal: 500,
};

/** The advice to the caller of each code. */
export const errorRemedy: Record<ErrorCode, string> = {
  validation_failed: 'Correct the fields named in details and send the request again.',
  malformed_body: 'Send a well-formed body of the content type that you named.',
  malformed_request: 'Send a well-formed HTTP/1.1 request with a well-formed URL.',
  headers_too_large: 'Send fewer or shorter headers.',
  request_timeout: 'Send the request without long gaps.',
  body_too_large: 'Send less, or use the streaming file routes, which have no size limit.',
  unsupported_media_type:
    'Send application/json, or what /docs names for this route, and unpack what is encoded unless the message names its encoding as taken.',
  unauthorized:
    'Send a valid key in the X-API-Key header. `perch up` prints one at its first start only; to add one of your own, start Perch with PERCH_API_KEY set to it.',
  origin_refused: 'Open the connection from a page that Perch serves, or without an Origin header.',
  route_not_found: 'See /docs for the routes there are.',
  method_not_allowed: 'Use a method named in details, see /docs.',
  rate_limited: 'Wait for the seconds in Retry-After, then try again.',
  idempotency_mismatch: 'Use a new Idempotency-Key for a different request.',
  sandbox_not_found: 'List the sandboxes there are with GET /v1/sandboxes.',
  sandbox_not_running:
    'Wait until it runs; resume it if it is paused (POST …/resume, or auto_resume at create); else create another.',
  sandbox_failed: 'Read the reason and GET /v1/sandboxes/{id}/logs, then create another sandbox.',
  sandbox_exists: 'Use another id.',
  sandbox_not_paused: 'Only a paused sandbox can be resumed; use this one as it is, or pause it first.',
  pause_failed: 'The sandbox runs on; try again.',
  resume_failed: 'The sandbox is still paused and whole; try again, and if it stays read its logs.',
  snapshot_damaged:
    'Run `perch fsck` to see what is damaged. Go on from an older checkpoint, or destroy the sandbox; delete or overwrite a snapshot.',
  snapshot_failed: 'The sandbox is as before; try again.',
  snapshot_not_found: 'List the snapshots there are with GET /v1/snapshots.',
  snapshot_exists: 'Choose another name, or say overwrite=true.',
  snapshot_in_use:
    'An image stays, since Perch needs it. A snapshot that was replaced meanwhile is another now: look at it, then try again.',
  import_refused: 'Mend what it says and import again; nothing was kept. See `perch snapshot import --help`.',
  conversion_failed:
    'The snapshot is as before. Mend what the reason names, or flatten the snapshot on the host that made it: then it goes to any host.',
  root_only: 'Ask as root of the machine that Perch runs on.',
  shape_mismatch:
    'Leave vcpus, memory_mb and disk_mb out: a sandbox made from a snapshot has the machine that details name.',
  fork_failed: 'The source is as before; try again.',
  checkpoint_not_found: 'List what is kept with GET /v1/sandboxes/{id}/history.',
  template_not_found: 'List what there is with GET /v1/templates and GET /v1/snapshots.',
  api_key_not_found: 'List the keys there are with GET /v1/api-keys.',
  last_api_key: 'Create another key with POST /v1/api-keys first.',
  image_damaged:
    'Delete the base image in the cache directory (`perch doctor` names it), build it again with `npm run setup`, and start Perch again.',
  disk_too_small: 'Ask for at least minimum_mb, the size of the template.',
  capacity_exhausted: 'Destroy a sandbox, ask for a smaller one, or try again later.',
  too_many_ready:
    'Pin fewer, or give others back with "count": null (GET /v1/ready lists them), or start Perch with a larger PERCH_READY_MAX.',
  host_disk_full:
    'Free space on the disk of the data directory, or remove snapshots and sandboxes; nothing of it was kept.',
  cleanup_delayed:
    'Mend what the reason names, such as a program that holds a device open. Perch goes on trying, and the status of the sandbox shows when it is done.',
  host_unavailable: 'Check that perch-host runs (`perch doctor`), then try again.',
  database_unavailable: 'Check that PostgreSQL runs (`perch doctor`), then try again.',
  guest_unavailable: 'Try again; if it stays, read GET /v1/sandboxes/{id}/logs.',
  guest_protocol: 'The guest sent what its agent never sends; destroy the sandbox if you do not trust it.',
  agent_too_old: 'Ask for the files one by one, or create the sandbox anew from a template of this Perch.',
  sandbox_busy:
    'Let some of them end, or close streams (kill what nobody needs: DELETE /v1/sandboxes/{id}/commands/{pid}), then try again.',
  exec_timeout: 'Ask for a longer timeout_sec, or use exec/stream for long commands.',
  command_not_found:
    'List the commands with GET /v1/sandboxes/{id}/commands. An ended one is kept for an hour, or for a minute when a client followed it to its end.',
  stdin_not_open: 'Start the command with "stdin": true, and send nothing after stdin_close.',
  invalid_user: 'Name a user that exists in the sandbox.',
  invalid_cwd: 'Name a directory that exists in the sandbox.',
  file_not_found: 'Check the path; GET /v1/sandboxes/{id}/files?path= lists a directory.',
  file_exists: 'Choose another path, or remove what is there.',
  not_a_file: 'Name a regular file; directories and devices cannot be read or written as files.',
  not_a_directory: 'Name a directory.',
  permission_denied: 'Choose a path that the sandbox lets its user touch.',
  disk_full: 'Free space in the sandbox, or create one with a larger disk_mb.',
  path_busy: 'Unmount what is mounted there, or end the program that uses it, then try again.',
  directory_not_empty: 'Remove what is in the directory, or choose another path.',
  read_only_file_system: 'Choose a path on a file system that is mounted for writing.',
  unsupported_by_file_system: 'Choose a path on another file system of the sandbox.',
  file_io_failed: 'Read the problem in details; `dmesg` in the sandbox says more of a failing device.',
  sandbox_out_of_resources: 'End programs in the sandbox that hold memory or open files, then try again.',
  events_lost: 'Read the directory anew, then watch it again.',
  port_closed: 'Start the server in the sandbox, on 0.0.0.0 rather than on its loopback.',
  transfer_interrupted: 'Send the transfer again; nothing of it was kept.',
  ticket_invalid: 'Get a new ticket: each opens one connection and lives for a minute.',
  shutting_down: 'Try again in a few seconds.',
  internal: 'Report it with the request id; the log has the cause.',
};

/** An error with a code. The message is one sentence for a person; `details` is for programs. */
export class PerchError<C extends ErrorCode = ErrorCode> extends Error {
  override readonly name = 'PerchError';
  readonly code: C;
  readonly details: ErrorContexts[C];

  constructor(code: C, message: string, details: ErrorContexts[C], options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
    this.details = details;
  }

  get status(): number {
    return errorStatus[this.code];
  }

  get remedy(): string {
    return errorRemedy[this.code];
  }

  /** The body every Perch HTTP API answers with. */
  toBody(): ErrorBody {
    return {
      error: {
        code: this.code,
        message: this.message,
        remedy: this.remedy,
        details: this.details as Record<string, unknown>,
      },
    };
  }

  /** The error that an HTTP answer stood for, or undefined when the body is not one of ours. */
  static fromBody(body: unknown): PerchError | undefined {
    const error = (body as { error?: { code?: unknown; message?: unknown; details?: unknown } } | null)
      ?.error;
    if (typeof error?.code !== 'string' || !Object.hasOwn(errorStatus, error.code)) return undefined;
    const message = typeof error.message === 'string' ? error.message : error.code;
    return new PerchError(error.code as ErrorCode, message, (error.details ?? {}) as never);
  }
}

/** True when `error` is a PerchError of the given code, which narrows its details. */
export function isPerchError<C extends ErrorCode>(error: unknown, code: C): error is PerchError<C> {
  return error instanceof PerchError && error.code === code;
}
