/** Changes in a directory of the guest, as they come. */
import { type FileChange, PerchError } from '@perch/protocol';
import { asObject, asText, type Json } from '../connect/json.ts';
import { guestProtocol } from '../errors.ts';
import { keepalives, readFrames, readJson } from '../frames.ts';
import { Refused, type Transport } from '../transport.ts';
import { maxPath, type PathOptions } from './directory.ts';
import { pathError } from './path-error.ts';

export interface WatchOptions extends PathOptions {
  /** Directories below it too, and those that come later. */
  recursive?: boolean | undefined;
}

const types: Record<string, FileChange['type']> = {
  EVENT_TYPE_CREATE: 'create',
  EVENT_TYPE_WRITE: 'write',
  EVENT_TYPE_REMOVE: 'remove',
  EVENT_TYPE_RENAME: 'rename',
  EVENT_TYPE_CHMOD: 'chmod',
};

/**
 * Resolves when the directory is watched. Leaving the iteration ends the watch; it has no other end but an error.
 * @throws file_not_found, also when the directory goes; not_a_directory; events_lost
 */
export async function watch(
  transport: Transport,
  path: string,
  { recursive = false, user, signal }: WatchOptions = {},
): Promise<AsyncGenerator<FileChange, void, void>> {
  const { sandboxId } = transport.options;
  const meaning = (error: unknown) => meaningOf(error, { sandboxId, path, user });
  const opened = transport.stream({
    path: '/filesystem.Filesystem/WatchDir',
    body: { path, recursive },
    user,
    signal,
    headers: keepalives,
  });
  const body = await opened.catch((error: unknown) => {
    throw meaning(error);
  });
  const messages = readFrames(body, sandboxId, { signal });
  try {
    const first = (await messages.next()).value;
    if (!first || !asObject(readJson(first.payload, sandboxId).start)) {
      throw guestProtocol(sandboxId, 'the first message is not start');
    }
  } catch (error) {
    body.destroy();
    throw meaning(error);
  }
  return changes();

  async function* changes(): AsyncGenerator<FileChange, void, void> {
    try {
      for await (const { output, payload } of messages) {
        const json = readJson(payload, sandboxId);
        if (asObject(json.keepalive)) continue;
        const change = output ? undefined : readChange(json);
        if (!change) throw guestProtocol(sandboxId, 'a change is malformed');
        yield change;
      }
    } catch (error) {
      throw meaning(error);
    }
    throw guestProtocol(sandboxId, 'a watch ended without an error');
  }
}

function readChange(json: Json): FileChange | undefined {
  const event = asObject(json.filesystem);
  const [name, kind] = [asText(event?.name, maxPath), asText(event?.type, 40)];
  const type = kind !== undefined && Object.hasOwn(types, kind) ? types[kind] : undefined;
  return name && type ? { type, name } : undefined;
}

function meaningOf(error: unknown, subject: { sandboxId: string; path: string; user: string | undefined }) {
  if (!(error instanceof Refused)) return error;
  const { code, reason } = error.refusal;
  // The agent has no reason in the file system for it.
  if (code !== 'resource_exhausted' || reason !== undefined) return pathError(error.refusal, subject);
  const { path } = subject;
  return new PerchError('events_lost', `Changes in ${path} came faster than they were taken.`, { path });
}
