/** Firecracker and its jailer, as the host agent would start them. */
import { findTool, RunError, run } from '../run.ts';
import { isAtLeast } from './qemu.ts';

/** Older ones have other names in their API. */
const oldest = '1.12.0';
const install =
  'take `firecracker` and `jailer` of one release from 1.12 on, https://github.com/firecracker-microvm/firecracker/releases; ' +
  'put both on PATH, or name them by PERCH_FIRECRACKER and PERCH_JAILER';

export interface FoundFirecracker {
  /** '' when there is none. */
  version: string;
  /** Version of the format of its states; '' where it does not tell. */
  stateFormat: string;
  /** Paths, '' where there is none. */
  programs: { firecracker: string; jailer: string };
  /** Why no guest can be started with it. */
  problem: { what: string; remedy: string } | undefined;
}

/** @throws RunError when it was killed: that says nothing about the machine */
export async function findFirecracker(env: NodeJS.ProcessEnv = process.env): Promise<FoundFirecracker> {
  const programs = {
    firecracker: env.PERCH_FIRECRACKER || findTool('firecracker') || '',
    jailer: env.PERCH_JAILER || findTool('jailer') || '',
  };
  const unusable = (what: string, version = '') => ({
    ...{ version, stateFormat: '', programs },
    problem: { what, remedy: install },
  });
  const versions: string[] = [];
  for (const [name, program] of Object.entries(programs)) {
    if (program === '') return unusable(`there is no ${name}`);
    const version = await versionOf(program);
    if (version === undefined) return unusable(`${program} does not run`);
    if (version === '') return unusable(`${program} does not tell its version`);
    if (!isAtLeast(version, oldest))
      return unusable(`${name} is ${version}; Perch needs ${oldest} or later`, version);
    versions.push(version);
  }
  const [version = '', jailer] = versions;
  if (version !== jailer) return unusable(`firecracker is ${version} and its jailer ${jailer}`, version);
  const stateFormat = (await said(programs.firecracker, '--snapshot-version', /^v(\d+\.\d+\.\d+)$/m)) ?? '';
  return { version, stateFormat, programs, problem: undefined };
}

/** `Firecracker v1.12.1` → `1.12.1`; '' where it says something else, undefined when it does not run. */
function versionOf(program: string): Promise<string | undefined> {
  return said(program, '--version', /^(?:Firecracker|Jailer) v(\d+\.\d+\.\d+)/im);
}

async function said(program: string, option: string, version: RegExp): Promise<string | undefined> {
  try {
    const { stdout } = await run(program, [option]);
    return version.exec(stdout)?.[1] ?? '';
  } catch (error) {
    if (!(error instanceof RunError) || error.outcome === 'unknown') throw error;
    return undefined;
  }
}
