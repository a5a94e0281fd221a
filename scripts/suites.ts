/** The suites of tests, and how each is run and counted. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { cargoEnv } from './cargo.ts';
import { type Outcome, outcomeVariable } from './outcome-reporter.ts';

const nothing: Outcome = { passed: 0, failed: 0, skipped: 0, failures: [] };

const soakTests = [
  ...['tests/chaos.test.ts', 'tests/power-cut.test.ts', 'tests/failpoints'],
  ...['tests/lab-faults.test.ts', 'tests/soak-lab.test.ts'],
];

export const suites: Record<string, () => Promise<Outcome>> = {
  agent: cargoTest,
  unit: () => vitest(['unit']),
  e2e: () => vitest(['e2e']),
  failpoints: () => vitest(['failpoints']),
  /** Hours if it is told to: `PERCH_CHAOS_KILLS` and `PERCH_CHAOS_SEED`, `PERCH_POWER_CUTS` and `PERCH_POWER_SEED`. */
  soak: () => vitest(['e2e', 'failpoints', 'lab'], soakTests, soakEnv()),
  /** The part of the lab's tests that each run has: the rest takes many times as long. */
  disks: () =>
    vitest(['lab'], ['tests/lab-disks.test.ts', 'tests/lab-firecracker.test.ts'], { PERCH_LAB_DATA: 'xfs' }),
  lab: () => vitest(['lab'], ['tests/lab']),
};
export const onlyByName: ReadonlySet<string> = new Set(['soak', 'lab']);
export const inLab: ReadonlySet<string> = new Set(['disks', 'lab', 'soak']);

/** The tests of files, or of all files below folders. @param name a pattern that their names match */
export function inFiles(paths: readonly string[], name?: string): Promise<Outcome> {
  const projects = new Set(paths.map((path) => projectOf(relative('.', path))));
  return vitest([...projects], [...paths, ...(name === undefined ? [] : ['--testNamePattern', name])]);
}

/** As vitest.config.ts has them. */
function projectOf(path: string): string {
  if (path.startsWith('tests/failpoints')) return 'failpoints';
  if (/^tests\/(soak-)?lab/.test(path)) return 'lab';
  return path.startsWith('tests') ? 'e2e' : 'unit';
}

async function cargoTest(): Promise<Outcome> {
  const { code, stdout } = await run(
    'cargo',
    ['test', '--locked', '--offline', '--workspace'],
    true,
    cargoEnv,
  );
  const outcome: Outcome = { ...nothing, failures: [] };
  for (const [, passed, failed, skipped] of stdout.matchAll(
    /^test result: .*?(\d+) passed; (\d+) failed; (\d+) ignored/gm,
  )) {
    outcome.passed += Number(passed);
    outcome.failed += Number(failed);
    outcome.skipped += Number(skipped);
  }
  return brokenUnless(code === 0, outcome);
}

function soakEnv(): Record<string, string> {
  const seed = `${Date.now() % 2 ** 31}`;
  const { PERCH_CHAOS_KILLS = '500', PERCH_CHAOS_SEED = seed } = process.env;
  const { PERCH_POWER_CUTS = '100', PERCH_POWER_SEED = seed } = process.env;
  const { PERCH_FAILPOINT_ROUNDS = '3', PERCH_FAILPOINT_VICTIMS = 'perchd,postgres,monitor,helper' } =
    process.env;
  const { PERCH_LAB_KILLS = '100', PERCH_LAB_CUTS = '5' } = process.env;
  const failpoints = { PERCH_FAILPOINT_ROUNDS, PERCH_FAILPOINT_VICTIMS };
  const lab = { PERCH_LAB_KILLS, PERCH_LAB_CUTS };
  return { PERCH_CHAOS_KILLS, PERCH_CHAOS_SEED, PERCH_POWER_CUTS, PERCH_POWER_SEED, ...failpoints, ...lab };
}

async function vitest(
  projects: readonly string[],
  args: readonly string[] = [],
  env: Record<string, string> = {},
): Promise<Outcome> {
  const file = join(tmpdir(), `${projects.join('-')}.json`);
  const reporters = ['--reporter=default', `--reporter=${join(import.meta.dirname, 'outcome-reporter.ts')}`];
  const only = projects.flatMap((project) => ['--project', project]);
  const { code } = await run('vitest', ['run', ...only, ...reporters, ...args], false, {
    ...env,
    [outcomeVariable]: file,
  });
  return brokenUnless(code === 0, existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : nothing);
}

/** A suite that did not end well has failed even when each test that it reports has passed. */
function brokenUnless(ok: boolean, outcome: Outcome): Outcome {
  return ok || outcome.failed > 0 ? outcome : { ...outcome, failed: 1 };
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
