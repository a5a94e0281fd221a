import { basename } from 'node:path';
import type { Perch } from '@perch/sdk';
import { CliError } from '../errors.ts';
import { destinationOf, openSource, writeWhole } from './local.ts';
import { type Place, withName } from './place.ts';
import { Progress } from './progress.ts';

export interface Copied {
  destination: string;
  bytes: number;
}

/** @throws CliError unless exactly one end is in a sandbox */
export async function copy(
  perch: Perch,
  source: Place,
  destination: Place,
  showProgress: boolean,
): Promise<Copied> {
  if (source.kind !== 'sandbox' && destination.kind === 'sandbox') {
    return upload(perch, source, destination, showProgress);
  }
  if (source.kind === 'sandbox' && destination.kind !== 'sandbox') {
    return download(perch, source, destination, showProgress);
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
  showProgress: boolean,
): Promise<Copied> {
  if (source.kind === 'standard' && (path === '' || path.endsWith('/'))) {
    throw new CliError('Standard input has no name.', 'Name the file in the sandbox: ID:PATH.');
  }
  const target = source.kind === 'file' ? withName(path, basename(source.path)) : path;
  const { stream, size } = await openSource(source);
  using progress = new Progress(showProgress, size);
  try {
    await perch.sandboxes.files.write(id, target, progress.over(stream));
  } finally {
    stream.destroy();
  }
  return { destination: `${id}:${target}`, bytes: progress.bytes };
}

async function download(
  perch: Perch,
  { id, path }: In<'sandbox'>,
  destination: In<'file' | 'standard'>,
  showProgress: boolean,
): Promise<Copied> {
  const name = basename(path);
  if (name === '' || path.endsWith('/')) {
    throw new CliError(
      'A directory cannot be copied.',
      `Name a file, or pack it: perch exec ${id} -- tar c ${path || '.'} | tar x`,
    );
  }
  const target = destination.kind === 'file' ? await destinationOf(destination.path, name) : '-';
  const { stream, size } = await perch.sandboxes.files.download(id, path);
  using progress = new Progress(showProgress, size);
  await writeWhole(target, progress.over(stream));
  return { destination: target, bytes: progress.bytes };
}
