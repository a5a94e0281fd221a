import { type ErrorCode, errorRemedy } from '@perch/protocol';

/** Remedies in the words of the command line, where those of the API name its routes and fields. */
const ofCommandLine: Partial<Record<ErrorCode, string>> = {
  validation_failed: 'Correct what it names and try again.',
  malformed_body:
    'Check that PERCH_URL leads to a Perch of the same version, with nothing between that changes requests.',
  malformed_request:
    'Check that PERCH_URL leads to a Perch of the same version, with nothing between that changes requests.',
  headers_too_large: 'Give a shorter key or path.',
  body_too_large: 'Send less: copy what is large with `perch cp`.',
  unsupported_media_type: 'Check that PERCH_URL leads to a Perch of the same version.',
  unauthorized:
    'Set PERCH_API_KEY to a valid key. `perch up` prints one at its first start only; to add one of your own, start Perch with PERCH_API_KEY set to perch_ and 40 lower-case hex digits.',
  origin_refused: 'Check that nothing between here and Perch changes requests.',
  route_not_found: 'Check that PERCH_URL leads to a Perch of the same version.',
  method_not_allowed: 'Check that PERCH_URL leads to a Perch of the same version.',
  rate_limited: 'Wait some seconds, then try again.',
  idempotency_mismatch: 'Try again.',
  sandbox_not_found: 'List the sandboxes there are with `perch ls`.',
  sandbox_not_running:
    'Wait until it runs; resume it with `perch resume` if it is paused (or create with --auto-resume); else create another.',
  sandbox_failed: 'Read the reason and `perch logs`, then create another sandbox.',
  snapshot_damaged:
    'Run `perch fsck` to see what is damaged. Go on from an older checkpoint, or remove the sandbox; remove or overwrite a snapshot.',
  snapshot_not_found: 'List the snapshots there are with `perch snapshot ls`.',
  snapshot_exists: 'Choose another name, or say --overwrite.',
  shape_mismatch:
    'Leave --vcpus, --memory and --disk out: a sandbox made from a snapshot has the machine that the message names.',
  checkpoint_not_found: 'List what is kept with `perch history`.',
  template_not_found: 'List what there is with `perch snapshot ls`.',
  api_key_not_found: 'Name a key that exists.',
  last_api_key: 'Make another key first.',
  disk_too_small: 'Ask for at least the size of the template.',
  too_many_ready:
    'Pin fewer, or give others back with --count auto (`perch ls --ready` lists them), or start Perch with a larger PERCH_READY_MAX.',
  guest_unavailable: 'Try again; if it stays, read `perch logs`.',
  sandbox_busy:
    'Let some of them end, or end what nobody needs (`perch ps` lists it, `perch kill` ends it), then try again.',
  exec_timeout:
    'Give it more time with --timeout, or none; or let it run on with --detach and follow it with `perch attach`.',
  command_not_found:
    'List what runs or has ended with `perch ps --all`. An ended one is known for an hour, or for a minute when somebody followed it to its end.',
  stdin_not_open: 'Leave --stdin out: the command was started without it.',
  file_not_found: 'Check the path.',
  file_io_failed: 'Read what the message says; `dmesg` in the sandbox says more of a failing device.',
  disk_full: 'Free space in the sandbox, or create one with a larger --disk.',
  ticket_invalid: 'Try again.',
};

export function remedyOf(code: ErrorCode): string {
  return ofCommandLine[code] ?? errorRemedy[code];
}
