/**
 * The parts of a data directory that take long to make and are the same in each Perch of a checkout: its programs, what
 * its host agent knows of the machine, and boot snapshots. Files are hard links: nobody writes to them again.
 */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { run } from './machine.ts';

const parts = ['bin', 'host/probe.json', 'boot-snapshots'];

/** @param from a data directory, or a copy of one by this. @param to on the same file system; it has none of these parts */
export async function plant(from: string, to: string): Promise<void> {
  for (const part of parts.filter((name) => existsSync(join(from, name)))) {
    await mkdir(dirname(join(to, part)), { recursive: true });
    await run('cp', ['-a', '--link', '--', join(from, part), join(to, part)]);
  }
}
