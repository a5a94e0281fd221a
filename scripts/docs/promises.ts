/**
 * Every promise of docs/SPECIFICATION.md and every effect of docs/EFFECTS.md names a test or benchmark that exists.
 *
 * The last column of each table under the heading "held by", "measured by" or "shown by" holds names in backticks.
 * A name is a file or a pattern of files, and `"the beginning of a title"` may follow it: `` `exec.test.ts` "a
 * time-out" ``. A failpoint counts as a test, since failpoint suites try each.
 */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { failpoints as ofControlPlane } from '../../apps/control-plane/src/failpoints/index.ts';
import { failpoints as ofHostAgent } from '../../apps/host-agent/src/failpoints/index.ts';
import { tableRows } from './markdown.ts';

/** The short names of folders that the page uses; a name with none of them is in `tests/`. */
const folders: Record<string, string> = {
  'cp/': 'apps/control-plane/src/',
  'host/': 'apps/host-agent/src/',
  'agent/': 'crates/guest-agent/tests/agent/',
};
const columns = new Set(['held by', 'measured by', 'shown by']);
const failpoints = new Set<string>([...ofHostAgent, ...ofControlPlane]);
const fromRoot = /^(apps|packages|crates|scripts|images|bench)\//;
/** A file that can hold a promise: tests of TypeScript and Rust, and benchmarks. */
const holder = /(\.test\.ts|^crates\/.*\.rs|^bench\/[a-z0-9-]+\.ts)$/;
const name = /`([^`]+)`(?:\s+"([^"]+)")?/g;

/**
 * @param page path of the page, for what is said of it
 * @param root folder of the repository
 * @returns number of promises, and a sentence for each one that nothing holds
 */
export function checkPromises(
  page: string,
  text: string,
  root: string,
): { promises: number; problems: string[] } {
  const problems: string[] = [];
  const rows = tableRows(text).filter(({ heading }) => columns.has(heading));
  for (const { line, last } of rows) {
    const at = `${page}:${line}`;
    const names = [...last.matchAll(name)];
    if (names.length === 0) problems.push(`${at}: the promise names no test or benchmark`);
    for (const [, file = '', title] of names) {
      if (failpoints.has(file)) continue;
      const found = filesOf(file, root);
      if (found.length === 0) problems.push(`${at}: there is no test, benchmark or failpoint ${file}`);
      else if (title !== undefined && !found.some((path) => hasTest(join(root, path), title)))
        problems.push(`${at}: ${file} has no test "${title}"`);
    }
  }
  return { promises: rows.length, problems };
}

function filesOf(file: string, root: string): string[] {
  const [prefix, folder] = Object.entries(folders).find(([short]) => file.startsWith(short)) ?? [
    '',
    fromRoot.test(file) ? '' : 'tests/',
  ];
  return globSync(folder + file.slice(prefix.length), { cwd: root }).filter((path) => holder.test(path));
}

/** Whether a string of the file, or the name of one of its functions in Rust, begins with `title`. */
function hasTest(path: string, title: string): boolean {
  const text = readFileSync(path, 'utf8');
  return path.endsWith('.rs')
    ? text.includes(`fn ${title}`)
    : ["'", '"', '`'].some((quote) => text.includes(quote + title));
}
