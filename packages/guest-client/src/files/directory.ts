/** Calls of `filesystem.Filesystem`. */
import type { FileEntry } from '@perch/protocol';
import { asInteger, asObject, asText, type Json } from '../connect/json.ts';
import { guestProtocol } from '../errors.ts';
import { Refused, type Transport } from '../transport.ts';
import { pathError } from './path-error.ts';
import { readTime } from './time.ts';

export interface PathOptions {
  user?: string | undefined;
  signal?: AbortSignal | undefined;
}

const types: Record<string, FileEntry['type']> = { FILE_TYPE_FILE: 'file', FILE_TYPE_DIRECTORY: 'directory' };

/** Longest path of a guest's, with what a replaced character may add. */
const maxPath = 16_384;

export async function stat(
  transport: Transport,
  path: string,
  options: PathOptions = {},
): Promise<FileEntry> {
  return entryOf(transport, await call(transport, 'Stat', { path }, path, options));
}

/** The entries below a directory, parents first. @param depth 1: its own entries */
export async function listDir(
  transport: Transport,
  path: string,
  depth = 1,
  options: PathOptions = {},
): Promise<FileEntry[]> {
  const answer = await call(transport, 'ListDir', { path, depth }, path, options);
  const entries = answer.entries ?? [];
  if (!Array.isArray(entries)) throw guestProtocol(transport.options.sandboxId, 'a listing is no list');
  return entries.map((entry: unknown) => entryOf(transport, { entry }));
}

/** Makes the directory and its parents. @throws file_exists */
export async function makeDir(
  transport: Transport,
  path: string,
  options: PathOptions = {},
): Promise<FileEntry> {
  return entryOf(transport, await call(transport, 'MakeDir', { path }, path, options));
}

/** Makes the destination's parents. Between file systems of the guest it copies, which takes its time. */
export async function move(
  transport: Transport,
  source: string,
  destination: string,
  options: PathOptions = {},
): Promise<FileEntry> {
  const message = { source, destination };
  return entryOf(transport, await call(transport, 'Move', message, source, options, { patient: true }));
}

/** With all that is below, which takes its time. A missing path is no error. */
export async function remove(transport: Transport, path: string, options: PathOptions = {}): Promise<void> {
  await call(transport, 'Remove', { path }, path, options, { patient: true });
}

async function call(
  transport: Transport,
  method: string,
  body: Json,
  path: string,
  { user, signal }: PathOptions,
  how?: { patient: boolean },
): Promise<Json> {
  try {
    return await transport.unary({ path: `/filesystem.Filesystem/${method}`, body, user, signal }, how);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    throw pathError(error.refusal, { sandboxId: transport.options.sandboxId, path, user });
  }
}

function entryOf(transport: Transport, answer: Json): FileEntry {
  const entry = readEntry(asObject(answer.entry));
  if (!entry) throw guestProtocol(transport.options.sandboxId, 'an entry is malformed');
  return entry;
}

function readEntry(entry: Json | undefined): FileEntry | undefined {
  if (!entry) return undefined;
  const text = (name: string, max: number) => asText(entry[name], max);
  const [name, path] = [text('name', maxPath), text('path', maxPath)];
  const [permissions, owner, group] = [text('permissions', 64), text('owner', 256), text('group', 256)];
  const [modified, target] = [readTime(entry.modifiedTime), text('symlinkTarget', maxPath)];
  const size = asInteger(entry.size, 0, Number.MAX_SAFE_INTEGER);
  const mode = asInteger(entry.mode, 0, 0o177777);
  if (name === undefined || path === undefined || target === undefined) return undefined;
  if (permissions === undefined || owner === undefined || group === undefined) return undefined;
  if (size === undefined || mode === undefined || modified === undefined) return undefined;
  return {
    name,
    path,
    type: (Object.hasOwn(types, String(entry.type)) && types[String(entry.type)]) || 'other',
    size,
    mode,
    permissions,
    owner,
    group,
    modified_at: modified,
    ...(target ? { symlink_target: target } : {}),
  };
}
