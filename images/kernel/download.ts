import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../commands.ts';
import { BuildError } from '../errors.ts';

/**
 * Downloads the kernel that a metapackage depends on now, with lists of its own: the machine's apt stays as it is.
 * @param scratch gets the file of the package
 * @param sourceLines as in apt's sources.list
 * @returns name of the versioned package
 */
export async function downloadKernel(
  scratch: string,
  metapackage: string,
  sourceLines: readonly string[],
): Promise<string> {
  await mkdir(join(scratch, 'lists/partial'), { recursive: true });
  const sources = join(scratch, 'sources.list');
  await writeFile(sources, `${sourceLines.join('\n')}\n`);
  const settings = {
    'Dir::Etc::SourceList': sources,
    'Dir::Etc::SourceParts': '-',
    'Dir::State::Lists': join(scratch, 'lists'),
    'Dir::State::Status': '/dev/null',
    'Dir::Cache::pkgcache': '',
    'Dir::Cache::srcpkgcache': '',
    'Acquire::Languages': 'none',
    'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled': 'false',
    // The hooks of the machine's own apt configuration are none of this download's business.
    'APT::Sandbox::User': 'root',
  };
  const options = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  const remedy = 'Check that `apt-get update` reaches a Debian mirror, then run `npm run setup` again.';
  await run('apt-get', [...options, '-q', 'update'], { remedy });
  const depends = await run('apt-cache', [...options, 'depends', '--important', metapackage], { remedy });
  const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1];
  if (name === undefined) throw new BuildError(`Debian has no ${metapackage} here`, remedy);
  await run('apt-get', [...options, '-q', 'download', name], { cwd: scratch, remedy });
  return name;
}
