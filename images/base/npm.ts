import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../commands.ts';
import { BuildError } from '../errors.ts';

/** Downloads `name@version` packages, checks each against its integrity (SRI) and unpacks it to `{target}/{name}`. */
export async function unpackNpmPackages(
  packages: Readonly<Record<string, string>>,
  target: string,
): Promise<void> {
  const specs = Object.keys(packages);
  await run('npm', ['pack', '--silent', '--pack-destination', target, ...specs], {
    cwd: target,
    remedy: 'Check that npm reaches its registry, then run `npm run setup` again.',
  });
  for (const [spec, integrity] of Object.entries(packages)) {
    const archive = join(target, `${spec.replace('@', '-')}.tgz`);
    const actual = `sha512-${createHash('sha512')
      .update(await readFile(archive))
      .digest('base64')}`;
    if (actual !== integrity) {
      throw new BuildError(
        `${spec} is not the package that images/base/recipe.json names`,
        'Check the npm registry in use.',
      );
    }
    const folder = join(target, spec.slice(0, spec.indexOf('@')));
    await mkdir(folder);
    await run('tar', ['-xzf', archive, '-C', folder, '--strip-components=1', '--no-same-owner']);
  }
}
