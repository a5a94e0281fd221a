/** The places that carry the version of Perch, which is that of the newest release in CHANGELOG.md. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const number = String.raw`\d+\.\d+\.\d+`;

/** Finds the version where the text has it between `before` and `after`. */
const between = (before: string, after = '') => new RegExp(`(?<=${before})${number}(?=${after})`, 'gm');

const ofPackage = between('"(?:version|@perch/[a-z-]+)": "', '"');
/** Of the lock file's own packages: its head, and entries whose name is a folder of ours. */
const ofLock = between(
  '^ {2}"version": "|^ {4}"(?:apps/[a-z-]+|packages/[a-z-]+|)": \\{\\n(?: {6,}.*\\n)*? {6,}"(?:version|@perch/[a-z-]+)": "',
  '"',
);

/** Each file with the version, and where in it. */
export function versionPlaces(root: string): [file: string, places: RegExp][] {
  const manifests = globSync(['package.json', '{apps,packages}/*/package.json'], { cwd: root }).sort();
  return [
    ...manifests.map((file): [string, RegExp] => [file, ofPackage]),
    ['package-lock.json', ofLock],
    ['Cargo.toml', between('^version = "', '"')],
    ['Cargo.lock', between('^name = "perch-guest"\\nversion = "', '"')],
    ['packages/protocol/src/version.ts', between("version = '", "'")],
    ['README.md', between('^The version is ')],
  ];
}

/** @returns a sentence for each place that says another version than the newest release */
export function checkVersions(root: string, changelog: string): { problems: string[] } {
  const newest = /^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$/m.exec(changelog)?.[1];
  if (newest === undefined) return { problems: ['CHANGELOG.md has no release with a date.'] };
  const problems: string[] = [];
  for (const [file, places] of versionPlaces(root)) {
    const found = readFileSync(join(root, file), 'utf8').match(places) ?? [];
    if (found.length === 0) problems.push(`${file} has no version.`);
    for (const other of new Set(found)) {
      if (other !== newest) problems.push(`${file} says version ${other}, and CHANGELOG.md ${newest}.`);
    }
  }
  return { problems };
}
