import { stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { isPerchError } from '@perch/protocol';
import type { FileEntry, Perch } from '@perch/sdk';
import { CliError } from '../errors.ts';
import { saveArchive } from './archive-out.ts';
import { linksBelow } from './links.ts';
import { destinationOf, openSource, writeWhole } from './local.ts';
import { type Place, withName } from './place.ts';
import { Progress } from './progress.ts';
import { sendTree } from './tree-in.ts';
import { saveTree } from './tree-out.ts';

export interface CopyOptions {
  showProgress: boolean;
  /** Directories, too. */
  recursive: boolean;
  /** Told of what is neither file, directory nor link. */
  leftOut: (path: string) => void;
  /** Told of what has another time, since the file system there does not take its own. */
  untimed: (path: string) => void;
  /** Told of what could not be removed in the sandbox after a failure. */
  leftBehind: (path: string) => void;
  /** Breaks the copy off, which then leaves nothing. */
  signal: AbortSignal;
}

export interface Copied {
  destination: string;
  bytes: number;
}

/** @throws CliError unless exactly one end is in a sandbox */
export async function copy(
  perch: Perch,
  source: Place,
  destination: Place,
  options: CopyOptions,
): Promise<Copied> {
  if (source.kind !== 'sandbox' && destination.kind === 'sandbox') {
    return upload(perch, source, destination, options);
  }
  if (source.kind === 'sandbox' && destination.kind !== 'sandbox') {
    return download(perch, source, destination, options);
  }
  throw new CliError(
    source.kind === 'sandbox' ? 'Both ends are in a sandbox.' : 'Neither end is in a sandbox.',
    'Write one of them as ID:PATH; `perch ls` lists the ids.',
  );
}

type In<K extends Place['kind']> = Extract<Place, { kind: K }>;

async function upload(
  perch: Perch,
  source: In<'file' | 'standard'>,
  { id, path }: In<'sandbox'>,
  { showProgress, recursive, leftBehind, untimed, signal }: CopyOptions,
): Promise<Copied> {
  if (recursive && source.kind === 'file' && (await isDirectory(source.path))) {
    using progress = new Progress(showProgress, undefined);
    const target = withName(path, basename(resolve(source.path)));
    const through = (content: AsyncIterable<Uint8Array>) => progress.over(content);
    await sendTree({ perch, id, through, leftBehind, untimed, signal }, source.path, target);
    return { destination: `${id}:${target}`, bytes: progress.bytes };
  }
  const folder = await folderIn(perch, id, path, signal);
  if (source.kind === 'standard' && folder !== undefined) {
    throw new CliError('Standard input has no name.', 'Name the file in the sandbox: ID:PATH.');
  }
  const target =
    source.kind === 'standard' || folder === undefined ? path : folder + basename(resolve(source.path));
  const { stream, size, mode, modifiedAt, isNearest } = await openSource(source);
  using progress = new Progress(showProgress, size);
  try {
    await perch.sandboxes.files.write(id, target, progress.over(stream), {
      ...{ mode, modifiedAt, signal },
    });
  } finally {
    stream.destroy();
  }
  if (isNearest && source.kind === 'file') untimed(source.path);
  return { destination: `${id}:${target}`, bytes: progress.bytes };
}

async function download(
  perch: Perch,
  { id, path }: In<'sandbox'>,
  destination: In<'file' | 'standard'>,
  options: CopyOptions,
): Promise<Copied> {
  const { files } = perch.sandboxes;
  const { showProgress, recursive, signal } = options;
  const found = recursive ? await files.stat(id, path || '.', { signal }) : undefined;
  if (found?.type === 'directory')
    return downloadTree(perch, { id, path: path || '.' }, found, destination, options);
  const name = basename(path);
  if (name === '' || path.endsWith('/'))
    throw new CliError('This is a directory.', 'Copy it with all that is below: perch cp -r');
  const target = destination.kind === 'file' ? await destinationOf(destination.path, name) : '-';
  const { stream, size, mode, modified_at: modifiedAt } = await files.download(id, path, { signal });
  using progress = new Progress(showProgress, size);
  await writeWhole(target, progress.over(stream), { mode, modifiedAt });
  return { destination: target, bytes: progress.bytes };
}

async function downloadTree(
  perch: Perch,
  { id, path }: { id: string; path: string },
  { mode, modified_at: modifiedAt }: FileEntry,
  destination: In<'file' | 'standard'>,
  { showProgress, leftOut, untimed, signal }: CopyOptions,
): Promise<Copied> {
  if (destination.kind === 'standard') {
    throw new CliError(
      'A directory does not go to standard output.',
      `Pack it: perch exec ${id} -- tar c ${path}`,
    );
  }
  const name = basename(path);
  const target = await destinationOf(destination.path, name);
  if (target !== destination.path && ['', '.', '..'].includes(name)) {
    throw new CliError('The directory has no name.', 'Name the one that is to be made.');
  }
  using progress = new Progress(showProgress, undefined);
  const through = (content: AsyncIterable<Uint8Array>) => progress.over(content);
  const { files } = perch.sandboxes;
  const to = target.replace(/(?<=.)\/+$/, '');
  const archive = await archiveOf(perch, id, path, signal);
  if (archive) {
    try {
      await saveArchive({ leftOut, untimed, signal }, through(archive), path, to);
    } catch (error) {
      // Of an archive that nobody has begun to read; any other has been given up.
      await archive.cancel().catch(() => {});
      throw error;
    }
  } else {
    const links = await linksBelow(perch, id, path, signal);
    const options = { files, id, links, through, leftOut, signal };
    await saveTree(options, path, to, { mode, modifiedAt });
  }
  return { destination: target, bytes: progress.bytes };
}

/** Undefined where the Perch or the guest agent is older than archives. */
async function archiveOf(perch: Perch, id: string, path: string, signal: AbortSignal) {
  try {
    return await perch.sandboxes.files.archive(id, path, { signal });
  } catch (error) {
    if (isPerchError(error, 'agent_too_old') || isPerchError(error, 'route_not_found')) return undefined;
    throw error;
  }
}

/** The beginning of the path of a file that is to go into this directory of the sandbox; undefined when it is none. */
async function folderIn(
  perch: Perch,
  id: string,
  path: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (path === '' || path.endsWith('/')) return path;
  try {
    const { type } = await perch.sandboxes.files.stat(id, path, { signal });
    return type === 'directory' ? `${path}/` : undefined;
  } catch (error) {
    if (isPerchError(error, 'file_not_found')) return undefined;
    throw error;
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}
