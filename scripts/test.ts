/**
 * `npm test [-- SUITE…]`: all suites but `soak`, or those named, in a network namespace of their own: nothing that a test or a guest
 * sends can leave the machine. Ends with "N passed, N failed".
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { styleText } from 'node:util';
import { resolveArtifacts } from '../images/index.ts';
import { cargoEnv } from './cargo.ts';

interface Count {
  passed: number;
  failed: number;
  skipped: number;
}

/** What is read of vitest's JSON report, whose shape is Jest's. */
interface Report {
  numPassedTests?: number;
  numFailedTests?: number;
  numPendingTests?: number;
  numTodoTests?: number;
  testResults?: {
    name: string;
    status: string;
    message: string;
    assertionResults: { fullName: string; status: string; failureMessages: string[] }[];
  }[];
}

const isolated = 'PERCH_TEST_ISOLATED';
const reports = mkdtempSync(join(tmpdir(), 'perch-test-'));

const soakTests = ['tests/chaos.test.ts', 'tests/power-cut.test.ts', 'tests/failpoints'];

const suites: Record<string, () => Promise<Count>> = {
  agent: cargoTest,
  unit: () => vitest(['unit']),
  e2e: () => vitest(['e2e']),
  failpoints: () => vitest(['failpoints']),
  /** Hours if it is told to: `PERCH_CHAOS_KILLS` and `PERCH_CHAOS_SEED`, `PERCH_POWER_CUTS` and `PERCH_POWER_SEED`. */
  soak: () => vitest(['e2e', 'failpoints'], soakTests, soakEnv()),
};
const onlyByName = new Set(['soak']);

if (process.env[isolated] === undefined) {
  // The network is needed for crates, and only for those.
  const fetched = spawnSync('cargo', ['fetch', '--locked', '--quiet'], { stdio: 'inherit' });
  if (fetched.status !== 0) process.exit(1);
  const inside = spawnSync('unshare', ['--net', process.execPath, ...process.argv.slice(1)], {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, [isolated]: '1', PERCH_GUEST_BIN: (await resolveArtifacts()).guestAgent },
  });
  process.exit(inside.status ?? 1);
}

spawnSync('ip', ['link', 'set', 'lo', 'up'], { stdio: 'inherit' });
const wanted = process.argv.slice(2);
for (const name of wanted) {
  if (suites[name]) continue;
  console.error(`There is no suite ${name}. There are: ${Object.keys(suites).join(', ')}.`);
  process.exit(2);
}

const sum: Count = { passed: 0, failed: 0, skipped: 0 };
const lines: string[] = [];
const failures: string[] = [];
for (const [name, suite] of Object.entries(suites)) {
  if (wanted.length > 0 ? !wanted.includes(name) : onlyByName.has(name)) continue;
  console.log(styleText('bold', `▶ ${name}`));
  const start = performance.now();
  const count = await suite();
  sum.passed += count.passed;
  sum.failed += count.failed;
  sum.skipped += count.skipped;
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  lines.push(
    `${name}: ${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped, ${seconds} s`,
  );
}
rmSync(reports, { recursive: true });
// Again at the end, where one looks first and where a log that was cut still has it.
for (const failure of failures) console.log(`\n${failure}`);
console.log(`\n${lines.join('\n')}`);
console.log(`${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
process.exitCode = sum.failed > 0 || sum.passed === 0 ? 1 : 0;

async function cargoTest(): Promise<Count> {
  const { code, stdout } = await run(
    'cargo',
    ['test', '--locked', '--offline', '--workspace'],
    true,
    cargoEnv,
  );
  const count: Count = { passed: 0, failed: 0, skipped: 0 };
  for (const [, passed, failed, skipped] of stdout.matchAll(
    /^test result: .*?(\d+) passed; (\d+) failed; (\d+) ignored/gm,
  )) {
    count.passed += Number(passed);
    count.failed += Number(failed);
    count.skipped += Number(skipped);
  }
  return brokenUnless(code === 0, count);
}

function soakEnv(): Record<string, string> {
  const seed = `${Date.now() % 2 ** 31}`;
  const { PERCH_CHAOS_KILLS = '500', PERCH_CHAOS_SEED = seed } = process.env;
  const { PERCH_POWER_CUTS = '100', PERCH_POWER_SEED = seed } = process.env;
  const { PERCH_FAILPOINT_ROUNDS = '3', PERCH_FAILPOINT_VICTIMS = 'perchd,postgres,monitor,helper' } =
    process.env;
  const failpoints = { PERCH_FAILPOINT_ROUNDS, PERCH_FAILPOINT_VICTIMS };
  return { PERCH_CHAOS_KILLS, PERCH_CHAOS_SEED, PERCH_POWER_CUTS, PERCH_POWER_SEED, ...failpoints };
}

async function vitest(
  projects: readonly string[],
  tests: readonly string[] = [],
  env: Record<string, string> = {},
): Promise<Count> {
  const file = join(reports, `${projects.join('-')}.json`);
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile=${file}`];
  const only = projects.flatMap((project) => ['--project', project]);
  const { code } = await run('vitest', ['run', ...only, ...reporters, ...tests], false, env);
  const report = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Report) : {};
  failures.push(...failuresOf(report));
  return brokenUnless(code === 0, {
    passed: report.numPassedTests ?? 0,
    failed: report.numFailedTests ?? 0,
    skipped: (report.numPendingTests ?? 0) + (report.numTodoTests ?? 0),
  });
}

/** Each failure of a report: the file, the test, and the first lines of what it said. */
function failuresOf({ testResults = [] }: Report): string[] {
  return testResults
    .filter(({ status }) => status === 'failed')
    .flatMap(({ name, message, assertionResults }) => {
      const file = relative(process.cwd(), name);
      const failed = assertionResults.filter(({ status }) => status === 'failed');
      if (failed.length === 0) return [`FAILED ${file}\n${beginning(message)}`];
      return failed.map(
        ({ fullName, failureMessages }) =>
          `FAILED ${file} > ${fullName}\n${beginning(failureMessages.join('\n'))}`,
      );
    });
}

function beginning(text: string): string {
  return text.split('\n').slice(0, 30).join('\n');
}

/** A suite that did not end well has failed even when each test that it reports has passed. */
function brokenUnless(ok: boolean, count: Count): Count {
  return ok || count.failed > 0 ? count : { ...count, failed: 1 };
}

async function run(
  file: string,
  args: string[],
  capture: boolean,
  env: Record<string, string> = {},
): Promise<{ code: number | null; stdout: string }> {
  const child = spawn(file, args, {
    stdio: ['ignore', capture ? 'pipe' : 'inherit', 'inherit'],
    env: { ...process.env, ...env },
  });
  let stdout = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    stdout += chunk;
    process.stdout.write(chunk);
  });
  const { promise, resolve } = Promise.withResolvers<number | null>();
  child.once('error', () => resolve(null));
  child.once('close', resolve);
  return { code: await promise, stdout };
}
