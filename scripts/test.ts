/**
 * `npm test [-- SUITE… | FILE… [-t NAME]]`: all suites but `soak`, those named, or the tests of files and folders, in an
 * enclosure: nothing that a test or a guest sends leaves the machine, and nothing outlives the run. Ends with "N passed, N failed".
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { parseArgs, styleText } from 'node:util';
import { resolveArtifacts } from '../images/index.ts';
import { ensureLab } from '../lab/index.ts';
import { ensureE2bPackages } from './e2b-python.ts';
import { enclose } from './enclosure/index.ts';
import type { Outcome } from './outcome-reporter.ts';
import { inFiles, inLab, onlyByName, suites } from './suites.ts';

const { values, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: { testNamePattern: { type: 'string', short: 't' } },
});
const byFile = wanted.some((name) => !suites[name]);
for (const name of wanted) {
  if (byFile ? existsSync(name) : suites[name]) continue;
  console.error(`There is no file ${name}, and no suite; suites are ${Object.keys(suites).join(', ')}.`);
  process.exit(2);
}
if (values.testNamePattern !== undefined && !byFile) {
  console.error('A name of a test goes with its file: npm test -- FILE -t NAME');
  process.exit(2);
}

await enclose(async () => {
  // The network is needed for crates and packages, and only for those.
  const fetched = spawnSync('cargo', ['fetch', '--locked', '--quiet'], { stdio: 'inherit' });
  if (fetched.status !== 0) process.exit(1);
  const withPython = ['tests/e2b-python.test.ts', 'tests/e2b-domain.test.ts'];
  const needsPython = (name: string) => name === 'e2e' || withPython.some((file) => file.startsWith(name));
  if (wanted.length === 0 || wanted.some(needsPython)) await ensureE2bPackages();
  // A lab is made of packages, too.
  const needsLab = (name: string) => inLab.has(name) || /tests\/(soak-)?lab[^/]*$/.test(name);
  if (wanted.length === 0 || wanted.some(needsLab)) await ensureLab(console.log);
  const { guestAgent, pager } = await resolveArtifacts();
  return { PERCH_GUEST_BIN: guestAgent, PERCH_PAGER: pager };
});

const chosen = byFile
  ? { files: () => inFiles(wanted, values.testNamePattern) }
  : Object.fromEntries(
      Object.entries(suites).filter(([name]) =>
        wanted.length > 0 ? wanted.includes(name) : !onlyByName.has(name),
      ),
    );
const sum: Outcome = { passed: 0, failed: 0, skipped: 0, failures: [] };
const lines: string[] = [];
for (const [name, suite] of Object.entries(chosen)) {
  console.log(styleText('bold', `▶ ${name}`));
  const start = performance.now();
  const { passed, failed, skipped, failures } = await suite();
  sum.passed += passed;
  sum.failed += failed;
  sum.skipped += skipped;
  sum.failures.push(...failures);
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  lines.push(`${name}: ${passed} passed, ${failed} failed, ${skipped} skipped, ${seconds} s`);
}
// Again at the end, where one looks first and where a log that was cut still has it.
for (const failure of sum.failures) console.log(`\n${failure}`);
console.log(`\n${lines.join('\n')}`);
console.log(`${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
process.exitCode = sum.failed > 0 || sum.passed === 0 ? 1 : 0;
