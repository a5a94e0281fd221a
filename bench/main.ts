/**
 * `npm run bench`: measures a Perch of its own, or a part of one, each figure beside its floor, in an enclosure that
 * nothing leaves and nothing of it outlives. `--json` writes the rows of `Figure`, or of `Comparison` with `--against`.
 */
import { writeFile } from 'node:fs/promises';
import { parseArgs, styleText } from 'node:util';
import { enclose } from '../scripts/enclosure/index.ts';
import { PerchInstance } from '../tests/setup/perch-instance.ts';
import { compare, comparisonTable, measureAgainst } from './against.ts';
import { BareGuests } from './bare-guest.ts';
import { type HostMeasure, type Measure, machine } from './bench.ts';
import { burst } from './burst.ts';
import { create } from './create.ts';
import { crowd } from './crowd.ts';
import { density } from './density.ts';
import { disks } from './disks.ts';
import { e2b } from './e2b.ts';
import { edge } from './edge.ts';
import { exec } from './exec.ts';
import { type Figure, figure, type Measured } from './figures.ts';
import { files } from './files.ts';
import { fork } from './fork.ts';
import { life } from './life.ts';
import { list } from './list.ts';
import { loadPerProcessor, shareOfOthers, useOfProcessors } from './load.ts';
import { describeMachine } from './machine.ts';
import { memory } from './memory.ts';
import { pause } from './pause.ts';
import { ready } from './ready.ts';
import { states } from './states.ts';
import { line, table } from './table.ts';
import { tree } from './tree.ts';

/** `exec` first: it looks at the memory of daemons that have done nothing else. */
const measures: Record<string, Measure> = {
  ...{ exec, list, crowd, files, tree, create, burst, ready, pause, states, memory, fork, e2b, edge, life },
};
const hostMeasures: Record<string, HostMeasure> = { disks, density };
/** Of each processor, before we add to it. */
const quietLoad = 0.25;
const names = [...Object.keys(hostMeasures), ...Object.keys(measures)];

const help = `npm run bench -- [MEASURE ...] [OPTION ...]
Measures Perch on this machine, each figure beside its floor in the same run. Without a name it takes all:
${names.join(', ')}.

  --at-most N       samples of create, pause, states, fork, e2b, edge and life at most, for the lab, and sandboxes of density
  --memory MB       memory of the guests, MiB (512, of life 256): less where ten of them must find room, as in the lab
  --against DIR     measures another checkout in turn, in which \`npm run setup\` has run, and prints the ratios
  --rounds N        with --against: how often each of them is measured (3)
  --json FILE       writes the figures to a file, too
  --help            prints this
`;

const { values, positionals } = readArguments();
if (values.help) {
  process.stdout.write(help);
  process.exit(0);
}
const atMost = Number(values['at-most'] ?? Number.POSITIVE_INFINITY);
const rounds = Number(values.rounds);
if (!(atMost >= 1)) {
  console.error('--at-most is a number of samples, from 1.');
  process.exit(2);
}
if (!(Number.isInteger(rounds) && rounds >= 1)) {
  console.error('--rounds is a whole number, from 1.');
  process.exit(2);
}
const memoryMb = values.memory === undefined ? undefined : Number(values.memory);
if (memoryMb !== undefined && !Number.isInteger(memoryMb)) {
  console.error('--memory is a whole number of MiB.');
  process.exit(2);
}
if (memoryMb !== undefined) machine.memory_mb = memoryMb;
const unknown = positionals.find((name) => !names.includes(name));
if (unknown !== undefined) {
  console.error(`There is no measure ${unknown}. There are: ${names.join(', ')}.`);
  process.exit(2);
}

// Both checkouts enclose themselves.
if (values.against === undefined) await enclose(async () => ({}));
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => stop.abort(new Error(`Ended by ${signal}.`)));
}
try {
  await (values.against === undefined ? measureHere() : compareWith(values.against));
} catch (error) {
  console.error(`${styleText('red', '✗')} ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}

function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        json: { type: 'string' },
        'at-most': { type: 'string' },
        memory: { type: 'string' },
        against: { type: 'string' },
        rounds: { type: 'string', default: '3' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n\n${help}`);
    process.exit(2);
  }
}

async function compareWith(dir: string): Promise<void> {
  const { signal } = stop;
  const wanted = positionals.length > 0 ? positionals : names;
  const passed = (['at-most', 'memory'] as const).flatMap((name) =>
    values[name] === undefined ? [] : [`--${name}`, values[name]],
  );
  const options = { dir, args: [...wanted, ...passed], rounds, signal, progress };
  const comparisons = compare(await measureAgainst(options));
  console.log(`\n${comparisonTable(comparisons)}`);
  await writeRows(comparisons);
}

async function measureHere(): Promise<void> {
  const figures: Figure[] = [];
  try {
    await run(figures);
  } finally {
    // Also of a run that broke off: what it measured counts.
    if (figures.length > 0) console.log(`\n${table(figures)}`);
    await writeRows(figures);
  }
}

async function writeRows(rows: readonly object[]): Promise<void> {
  if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(rows, undefined, 2)}\n`);
}

async function run(figures: Figure[]): Promise<void> {
  for (const [what, is] of await describeMachine()) describe(what, is);
  if (loadPerProcessor() > quietLoad)
    warn('The machine is at work already: figures are those of what it has left.');
  const wanted = positionals.length > 0 ? positionals : names;
  const ofHost = wanted.flatMap((name) => hostMeasures[name] ?? []);
  const { signal } = stop;
  for (const measure of ofHost) figures.push(...(await watched(() => measure({ atMost, signal, progress }))));
  const ofPerch = wanted.flatMap((name) => measures[name] ?? []);
  if (ofPerch.length > 0) await runWithPerch(ofPerch, figures);
}

async function runWithPerch(wanted: readonly Measure[], figures: Figure[]): Promise<void> {
  progress('starting a Perch');
  // Its end fails when anything is left over.
  await using instance = await PerchInstance.start({ network: 214 });
  const [host] = await instance.perch.hosts.list();
  describe('monitor', host?.vmm ?? 'unknown');
  const sandbox = await instance.perch.sandboxes.create(machine);
  await using bare = await BareGuests.like(instance, sandbox);
  for (const measure of wanted) {
    const bench = { instance, sandbox: sandbox.id, bare, memoryMb, atMost, signal: stop.signal, progress };
    figures.push(...(await watched(() => measure(bench))));
  }
  progress('taking it down');
}

/** The figures of a measure, with what others did meanwhile. */
async function watched(measure: () => Promise<Measured[]>): Promise<Figure[]> {
  const before = useOfProcessors();
  const measured = await measure();
  const others = shareOfOthers(before, useOfProcessors());
  const figures = measured.map((one) => figure(one, others));
  for (const one of figures) console.log(line(one));
  return figures;
}

function describe(what: string, is: string): void {
  console.log(`  ${what.padEnd(16)}${is}`);
}

function progress(text: string): void {
  console.log(`${styleText('bold', '▶')} ${text}`);
}

function warn(text: string): void {
  console.log(`${styleText('yellow', '!')} ${text}`);
}
