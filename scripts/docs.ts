/**
 * `npm run docs` writes the page that is generated. With `--check` nothing is written: it says whether that page is
 * old, which promise or effect no test holds, which link of a page is dead and which place says another version. It plants a violation of each kind
 * first, to show that it can see.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorsPage } from './docs/errors-page.ts';
import { checkLinks, pages } from './docs/links.ts';
import { checkPromises } from './docs/promises.ts';
import { checkVersions } from './docs/versions.ts';

const root = join(import.meta.dirname, '..');
const fewestPromises = 100;
const fewestLinks = 15;
const generated = join(root, 'docs/ERRORS.md');
const fresh = errorsPage(root);
const check = process.argv.includes('--check');
if (!check) writeFileSync(generated, fresh);

seesPlanted('is old', { problems: current(`${fresh}planted\n`) });
seesPlanted('names no test', planted('the tests'));
seesPlanted('no test, benchmark or failpoint', planted('`no-such-file.test.ts`'));
seesPlanted('no test, benchmark or failpoint', planted('`packages/protocol/src/index.ts`'));
seesPlanted('no test, benchmark or failpoint', planted('`pause.nowhere`'));
seesPlanted('has no test "', planted('`exec.test.ts` "no such title"'));
seesPlanted('no docs/no-such-page.md', checkLinks('README.md', '[x](docs/no-such-page.md)', root));
seesPlanted('no heading', checkLinks('README.md', '[x](docs/SECURITY.md#no-such-heading)', root));
seesPlanted('says version', checkVersions(root, '## [0.0.1] - 2026-01-01\n'));

const problems = current(readFileSync(generated, 'utf8'));
let promises = 0;
let links = 0;
for (const page of pages(root)) {
  const text = readFileSync(join(root, page), 'utf8');
  const held = checkPromises(page, text, root);
  const linked = checkLinks(page, text, root);
  promises += held.promises;
  links += linked.links;
  problems.push(...held.problems, ...linked.problems);
}
problems.push(...checkVersions(root, readFileSync(join(root, 'CHANGELOG.md'), 'utf8')).problems);
if (promises < fewestPromises) problems.push(`Only ${promises} promises were found.`);
if (links < fewestLinks) problems.push(`Only ${links} links were found.`);
for (const problem of problems) console.error(problem);
console.log(`${promises} promises, ${links} links, ${problems.length} problems`);
if (problems.length > 0) process.exitCode = 1;

function current(page: string): string[] {
  return page === fresh ? [] : ['docs/ERRORS.md is old: npm run docs writes it.'];
}

function planted(last: string): { problems: string[] } {
  const table = `| promise | number | held by |\n|---|---|---|\n| planted | | ${last} |\n`;
  return checkPromises('planted.md', table, root);
}

/** @param complaint part of what must be said about the violation that was planted */
function seesPlanted(complaint: string, { problems: seen }: { problems: string[] }): void {
  if (seen.some((problem) => problem.includes(complaint))) return;
  console.error(`A violation was planted, and nothing was said of "${complaint}".`);
  process.exit(1);
}
