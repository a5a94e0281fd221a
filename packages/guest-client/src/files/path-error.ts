/** The meaning of a refused call about a path to its caller. */
import { quoted } from '@perch/node-kit';
import { PerchError } from '@perch/protocol';
import { common, guestProtocol, invalid, type Refusal, type Subject } from '../errors.ts';

/** Codes whose only details are the path, with what they say of it. */
const plain = {
  file_not_found: 'does not exist',
  file_exists: 'exists already',
  permission_denied: 'may not be touched by this user',
  disk_full: 'does not fit: the disk is full',
  not_a_file: 'is not a regular file',
  not_a_directory: 'is not a directory',
  path_busy: 'is in use',
  directory_not_empty: 'is a directory that is not empty',
  read_only_file_system: 'is on a file system that is read-only',
} as const;

/** Codes whose details also have the words of the system. */
const explained = {
  unsupported_by_file_system: 'cannot be dealt with so on its file system',
  file_io_failed: 'could not be read or written',
  sandbox_out_of_resources: 'could not be dealt with: the sandbox has run out of something',
} as const;

type Meaning = keyof typeof plain | keyof typeof explained | 'validation_failed' | 'malformed_body';

/** By the reason that the agent names: all that its table of system errors has. */
const reasons: Record<string, Meaning> = {
  missing: 'file_not_found',
  denied: 'permission_denied',
  read_only: 'read_only_file_system',
  exists: 'file_exists',
  not_directory: 'not_a_directory',
  not_file: 'not_a_file',
  not_empty: 'directory_not_empty',
  busy: 'path_busy',
  full: 'disk_full',
  invalid: 'validation_failed',
  unsupported: 'unsupported_by_file_system',
  exhausted: 'sandbox_out_of_resources',
  io: 'file_io_failed',
  encoding: 'malformed_body',
};

/** By Connect code or status, for the agent of an older snapshot, which names no reason. */
const codes: Record<string, Meaning> = {
  not_found: 'file_not_found',
  '404': 'file_not_found',
  already_exists: 'file_exists',
  '409': 'file_exists',
  permission_denied: 'permission_denied',
  '403': 'permission_denied',
  resource_exhausted: 'disk_full',
  '507': 'disk_full',
  internal: 'file_io_failed',
  '500': 'file_io_failed',
  invalid_argument: 'validation_failed',
  '400': 'validation_failed',
};

export function pathError(refusal: Refusal, subject: Subject & { path: string }): PerchError {
  const shared = common(refusal, subject);
  if (shared) return shared;
  const { path } = subject;
  const problem = quoted(refusal.message);
  const meaning = meaningOf(refusal);
  if (meaning === undefined) {
    return guestProtocol(subject.sandboxId, `${refusal.code}: ${refusal.message}`);
  }
  if (meaning === 'validation_failed') return invalid('path', refusal.message);
  if (meaning === 'malformed_body') {
    return new PerchError(meaning, `The body cannot be read: ${problem}.`, { reason: problem });
  }
  if (isExplained(meaning)) {
    const message = `${quoted(path)} ${explained[meaning]}: ${problem}.`;
    return new PerchError(meaning, message, { path, problem });
  }
  return new PerchError(meaning, `${quoted(path)} ${plain[meaning]}.`, { path });
}

/** Meanings that only the path may have that something is moved to. */
const ofDestination: ReadonlySet<Meaning | undefined> = new Set<Meaning>([
  'file_exists',
  'disk_full',
  'not_a_file',
  'not_a_directory',
  'directory_not_empty',
]);

/** The path of a move that the refusal is about. The agent of an older snapshot does not tell it. */
export function movedSubject(refusal: Refusal): 'source' | 'destination' {
  return refusal.subject ?? (ofDestination.has(meaningOf(refusal)) ? 'destination' : 'source');
}

function meaningOf({ reason, code, message }: Refusal): Meaning | undefined {
  if (reason !== undefined && Object.hasOwn(reasons, reason)) return reasons[reason];
  const meaning = Object.hasOwn(codes, code) ? codes[code] : undefined;
  if (meaning !== 'validation_failed') return meaning;
  if (/not a directory/i.test(message)) return 'not_a_directory';
  if (/is a directory|not a (regular )?file|special file|device|fifo|socket/i.test(message))
    return 'not_a_file';
  return meaning;
}

function isExplained(meaning: Meaning): meaning is keyof typeof explained {
  return Object.hasOwn(explained, meaning);
}
