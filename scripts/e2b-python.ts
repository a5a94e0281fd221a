/** E2B's Python SDK for the tests: exact packages of its registry, in the cache by what they are. */
import { execFile } from 'node:child_process';
import { hash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { cacheDir } from '../images/index.ts';

const requirements = join(import.meta.dirname, '../tests/e2b-python/requirements.txt');
const needs =
  "E2B's Python SDK needs python3 from 3.11 on, pip (apt-get install python3-pip), and once its registry";

/** Folder of the packages, for PYTHONPATH. Some have code for one version of Python only. */
export async function e2bPackages(): Promise<string> {
  const version = await python('-c', 'import sys; print(*sys.version_info[:2])');
  const key = hash('sha256', version + (await readFile(requirements, 'utf8')), 'hex').slice(0, 16);
  return join(cacheDir(), 'e2b-python', key);
}

/** Installs them if they are not there. Two at once do no harm: each makes its own, and one of them stays. */
export async function ensureE2bPackages(): Promise<string> {
  const folder = await e2bPackages();
  if (existsSync(folder)) return folder;
  const making = `${folder}.${process.pid}`;
  await mkdir(dirname(folder), { recursive: true });
  const options = ['--quiet', '--disable-pip-version-check', '--no-deps', '--only-binary', ':all:'];
  await python('-m', 'pip', 'install', ...options, '--target', making, '-r', requirements);
  try {
    await rename(making, folder);
  } catch (error) {
    if (!existsSync(folder)) throw error;
    await rm(making, { recursive: true });
  }
  return folder;
}

async function python(...args: string[]): Promise<string> {
  try {
    return (await promisify(execFile)('python3', args)).stdout;
  } catch (cause) {
    throw new Error(`${needs}: ${(cause as Error).message}`, { cause });
  }
}
