/** Brings this checkout into a lab: what git tracks, and what it would, as it lies here, and what is compiled from it. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { lstatSync, readFileSync, readlinkSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { isDeepStrictEqual } from 'node:util';
import { compiled } from '../apps/cli/bin/compiled.mjs';
import { run } from '../images/commands.ts';
import { BuildError } from '../images/errors.ts';
import type { GuestClient } from '../packages/guest-client/src/index.ts';
import { runInLab } from './command.ts';

export const labRoot = '/perch';
const archive = '/perch.tar';
const gone = '/perch.gone';

/** Digest of each file or link of a checkout by its path. */
export type Checkout = ReadonlyMap<string, string>;

async function readCheckout(root: string): Promise<Checkout> {
  const list = await run('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: root,
    remedy: 'Run it in a checkout of git that belongs to you.',
  });
  const checkout = new Map<string, string>();
  for (const path of [...list.split('\0'), ...(await compiledFiles(root))]) {
    const digest = path === '' ? undefined : digestOf(join(root, path));
    if (digest !== undefined) checkout.set(path, digest);
  }
  return checkout;
}

/** To compile them takes a lab a minute. */
async function compiledFiles(root: string): Promise<string[]> {
  const folders = await Promise.all([compiled('cli'), compiled('daemons')]);
  const files = folders.map(async (folder) => {
    // The programs are those of the checkout of this file.
    if (!folder?.startsWith(join(root, '/'))) return [];
    return (await readdir(folder)).map((name) => join(relative(root, folder), name));
  });
  return (await Promise.all(files)).flat();
}

/** @returns undefined for what is not there, such as a file that is deleted and not committed, and for directories */
function digestOf(path: string): string | undefined {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found?.isSymbolicLink()) return `link ${readlinkSync(path)}`;
  if (!found?.isFile()) return undefined;
  return `${found.mode & 0o777} ${createHash('sha256').update(readFileSync(path)).digest('base64')}`;
}

/**
 * @param there what the lab has already: only the rest is brought
 * @returns what it has now
 * @throws BuildError when somebody changes the checkout meanwhile: what is known of the lab would not be so
 */
export async function bringCheckout(agent: GuestClient, root: string, there: Checkout): Promise<Checkout> {
  const checkout = await readCheckout(root);
  const changed = [...checkout].filter(([path, digest]) => there.get(path) !== digest);
  const removed = [...there.keys()].filter((path) => !checkout.has(path));
  if (changed.length + removed.length === 0) return checkout;
  const packed = await pack(
    root,
    changed.map(([path]) => path),
  );
  if (!isDeepStrictEqual(await readCheckout(root), checkout)) {
    throw new BuildError('The checkout was changed while it was brought into the lab.', 'Run it again.');
  }
  await agent.writeFile(gone, Readable.from(removed.map((path) => Buffer.from(`${path}\0`))));
  await agent.writeFile(archive, Readable.from([packed]));
  const unpack = `cd ${labRoot} && xargs -0 -r -a ${gone} rm -f && tar -xf ${archive} && rm ${gone} ${archive}`;
  await runInLab(agent, 'sh', ['-c', unpack]);
  return checkout;
}

async function pack(root: string, paths: readonly string[]): Promise<Buffer> {
  const tar = spawn('tar', ['-c', '--null', '--ignore-failed-read', '-T', '-'], {
    ...{ cwd: root, stdio: ['pipe', 'pipe', 'ignore'] },
  });
  tar.stdin.end(paths.map((path) => `${path}\0`).join(''));
  const [packed, [code]] = await Promise.all([
    buffer(tar.stdout),
    once(tar, 'exit') as Promise<[number | null]>,
  ]);
  if (code === null || code > 1) throw new Error(`tar could not pack the checkout: exit code ${code}.`);
  return packed;
}
