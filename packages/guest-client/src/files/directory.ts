/** Calls of `filesystem.Filesystem`. */
import type { FileEntry } from '@perch/protocol';
import { asInteger, asObject, asText, type Json } from '../connect/json.ts';
import { guestProtocol } from '../errors.ts';
import { Refused, type Transport } from '../transport.ts';
import { movedSubject, pathError } from './path-error.ts';
import { readTime } from './time.ts';

export interface PathOptions {
  user?: string | undefined;
  signal?: AbortSignal | undefined;
}

const types: Record<string, FileEntry['type']> = { FILE_TYPE_FILE: 'file', FILE_TYPE_DIRECTORY: 'directory' };

/** Longest path of a guest's, with what a replaced character may add. */
export const maxPath = 16_384;

export async function stat(
  transport: Transport,
  path: string,
  options: PathOptions = {},
): Promise<FileEntry> {
  return entryOf(transport, await call(transport, '/filesystem.Filesystem/Stat', { path }, path, options));
}

export interface PageOptions extends PathOptions {
  /** Entries of the page, at most 1000. */
  limit: number;
  /** `nextCursor` of the page before. */
  cursor?: string | undefined;
}

/** By name, in the order of its bytes. */
export interface DirectoryPage {
  entries: FileEntry[];
  /** Undefined for the last page. */
  nextCursor: string | undefined;
}

/** Some of a directory's own entries. */
export async function listPage(
  transport: Transport,
  path: string,
  { limit, cursor, ...options }: PageOptions,
): Promise<DirectoryPage> {
  const body = { path, limit, ...(cursor === undefined ? {} : { cursor }) };
  const { sandboxId } = transport.options;
  const answer = await transport
    .unary({ path: '/perch.Files/List', body, ...options })
    .catch((error: unknown) => {
      if (!(error instanceof Refused) || error.refusal.code !== 'unimplemented') {
        throw refused(transport, error, path, options.user);
      }
      return undefined;
    });
  if (!answer) return pageOfWhole(transport, path, { limit, cursor, ...options });
  const { entries, nextCursor } = answer;
  if (!Array.isArray(entries) || entries.length > limit) throw guestProtocol(sandboxId, 'a page is no page');
  if (nextCursor !== undefined && !isCursor(nextCursor))
    throw guestProtocol(sandboxId, 'a cursor is malformed');
  return { entries: entries.map((entry: unknown) => entryOf(transport, { entry })), nextCursor };
}

/** Of the agent of an older snapshot, which gives a directory as one. */
async function pageOfWhole(
  transport: Transport,
  path: string,
  { limit, cursor = '', ...options }: PageOptions,
): Promise<DirectoryPage> {
  const method = '/filesystem.Filesystem/ListDir';
  const { entries = [] } = await call(transport, method, { path, depth: 1 }, path, options);
  if (!Array.isArray(entries)) throw guestProtocol(transport.options.sandboxId, 'a listing is no list');
  const after = Buffer.from(cursor, 'base64url');
  const bytes = ({ name }: FileEntry) => Buffer.from(name);
  const left = entries
    .map((entry: unknown) => entryOf(transport, { entry }))
    .filter((entry) => bytes(entry).compare(after) > 0)
    .sort((a, b) => bytes(a).compare(bytes(b)));
  const last = left.length > limit ? left[limit - 1] : undefined;
  return { entries: left.slice(0, limit), nextCursor: last && bytes(last).toString('base64url') };
}

function isCursor(value: unknown): value is string {
  return typeof value === 'string' && /^[A-Za-z0-9_-]{1,512}$/.test(value);
}

/** Makes the directory and its parents. @throws file_exists */
export async function makeDir(
  transport: Transport,
  path: string,
  options: PathOptions = {},
): Promise<FileEntry> {
  return entryOf(transport, await call(transport, '/filesystem.Filesystem/MakeDir', { path }, path, options));
}

/** Makes the destination's parents. Between file systems of the guest it copies, which takes its time. */
export async function move(
  transport: Transport,
  source: string,
  destination: string,
  options: PathOptions = {},
): Promise<FileEntry> {
  const body = { source, destination };
  const answer = await transport
    .unary({ path: '/filesystem.Filesystem/Move', body, ...options }, { patient: 'transfers' })
    .catch((error: unknown) => {
      const path = error instanceof Refused ? { source, destination }[movedSubject(error.refusal)] : source;
      throw refused(transport, error, path, options.user);
    });
  return entryOf(transport, answer);
}

/** With all that is below, which takes its time. A missing path is no error. */
export async function remove(transport: Transport, path: string, options: PathOptions = {}): Promise<void> {
  await call(transport, '/filesystem.Filesystem/Remove', { path }, path, options, { patient: 'transfers' });
}

async function call(
  transport: Transport,
  method: string,
  body: Json,
  path: string,
  { user, signal }: PathOptions,
  how?: { patient: 'transfers' },
): Promise<Json> {
  try {
    return await transport.unary({ path: method, body, user, signal }, how);
  } catch (error) {
    throw refused(transport, error, path, user);
  }
}

function refused(transport: Transport, error: unknown, path: string, user: string | undefined): unknown {
  if (!(error instanceof Refused)) return error;
  return pathError(error.refusal, { sandboxId: transport.options.sandboxId, path, user });
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
