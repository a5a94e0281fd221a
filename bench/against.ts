/** Two checkouts measured in turn, so that what else the machine does falls on both alike. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { styleText } from 'node:util';
import { type Figure, quantile, round } from './figures.ts';
import { quietShare } from './load.ts';
import { aligned } from './table.ts';

export interface Round {
  here: readonly Figure[];
  there: readonly Figure[];
}

/** A figure of both: medians over the rounds of their p50, and the ratio of each round. */
export interface Comparison {
  name: string;
  unit: Figure['unit'];
  rounds: number;
  here: number;
  there: number;
  ratio: number;
  ratio_least: number;
  ratio_most: number;
  /** The largest share of the processors that others had, where a checkout tells it. */
  others: number;
}

export interface Against {
  /** The other checkout, in which `npm run setup` has run. */
  dir: string;
  /** Names of measures, and options. */
  args: readonly string[];
  rounds: number;
  signal: AbortSignal;
  progress: (text: string) => void;
}

/** Who goes first changes from round to round. @throws Error when one of the checkouts cannot be measured */
export async function measureAgainst({ dir, args, rounds, signal, progress }: Against): Promise<Round[]> {
  const there = resolve(dir);
  const here = join(import.meta.dirname, '..');
  const measured: Round[] = [];
  for (let turn = 0; turn < rounds; turn++) {
    const round: Record<keyof Round, Figure[]> = { here: [], there: [] };
    const order = [['here', here] as const, ['there', there] as const];
    for (const [side, checkout] of turn % 2 === 0 ? order : order.toReversed()) {
      progress(`round ${turn + 1} of ${rounds}: ${checkout}`);
      round[side] = await figuresOf(checkout, args, signal);
    }
    measured.push(round);
  }
  return measured;
}

export function compare(rounds: readonly Round[]): Comparison[] {
  return (rounds[0]?.here ?? []).flatMap(({ name, unit }) => {
    const pairs = rounds.flatMap(({ here, there }) => {
      const one = here.find((figure) => figure.name === name);
      const other = there.find((figure) => figure.name === name);
      return one && other ? [{ one, other }] : [];
    });
    if (pairs.length === 0) return [];
    const ratios = pairs.map(({ one, other }) => one.p50 / other.p50);
    return {
      ...{ name, unit, rounds: pairs.length },
      here: quantile(
        pairs.map(({ one }) => one.p50),
        0.5,
      ),
      there: quantile(
        pairs.map(({ other }) => other.p50),
        0.5,
      ),
      ratio: round(quantile(ratios, 0.5)),
      ratio_least: round(Math.min(...ratios)),
      ratio_most: round(Math.max(...ratios)),
      // A checkout of before does not tell.
      others: Math.max(0, ...pairs.flatMap(({ one, other }) => [one.others, other.others ?? 0])),
    };
  });
}

export function comparisonTable(comparisons: readonly Comparison[]): string {
  const heads = ['', 'unit', 'rounds', 'here', 'there', 'ratio', 'least', 'most', 'others'];
  const rows = comparisons.map((one) => [
    ...[one.name, one.unit],
    ...[one.rounds, one.here, one.there, one.ratio, one.ratio_least, one.ratio_most].map(String),
    `${Math.round(one.others * 100)} %${one.others > quietShare ? ' !' : ''}`,
  ]);
  const [head = '', ...lines] = aligned([heads, ...rows], new Set([0, 1]));
  return [styleText('bold', head), ...lines].join('\n');
}

/** As its users run it, in that checkout. */
async function figuresOf(checkout: string, args: readonly string[], signal: AbortSignal): Promise<Figure[]> {
  signal.throwIfAborted();
  const dir = await mkdtemp(join(tmpdir(), 'perch-bench-'));
  try {
    const file = join(dir, 'figures.json');
    // It has our terminal, which sends it the same Ctrl-C.
    const child = spawn('npm', ['run', '--silent', 'bench', '--', ...args, '--json', file], {
      cwd: checkout,
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    const end = () => child.kill('SIGTERM');
    signal.addEventListener('abort', end, { once: true });
    const [code] = (await once(child, 'exit')) as [number | null];
    signal.removeEventListener('abort', end);
    signal.throwIfAborted();
    if (code !== 0) throw new Error(`npm run bench in ${checkout} ended with ${code}.`);
    return JSON.parse(await readFile(file, 'utf8')) as Figure[];
  } finally {
    await rm(dir, { recursive: true });
  }
}
