/** `npm run release -- VERSION DATE`: what CHANGELOG.md has as unreleased becomes a release, in every place. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { versionPlaces } from './docs/versions.ts';

const root = join(import.meta.dirname, '..');
const [version = '', date = ''] = process.argv.slice(2);
if (!/^\d+\.\d+\.\d+$/.test(version) || !/^\d{4}-\d{2}-\d{2}$/.test(date)) {
  console.error('Say the version and the date, such as: npm run release -- 1.2.3 2026-01-31');
  process.exit(1);
}
change('CHANGELOG.md', /^## \[Unreleased\]$/m, `## [Unreleased]\n\n## [${version}] - ${date}`);
for (const [file, places] of versionPlaces(root)) change(file, places, version);

function change(file: string, what: RegExp, to: string): void {
  const path = join(root, file);
  writeFileSync(path, readFileSync(path, 'utf8').replace(what, to));
}
