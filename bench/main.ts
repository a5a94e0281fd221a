/**
 * `npm run bench [-- NAME …] [--at-most N] [--json FILE]`, a NAME of `measures`: measures a Perch of its own, or a part of one, each
 * figure beside its floor, in an enclosure that nothing leaves and nothing of it outlives. `--json` writes the rows of
 * `Figure`; `--at-most` has `create` and `pause` take fewer samples, for the lab.
 */
import { writeFile } from 'node:fs/promises';
import { parseArgs, styleText } from 'node:util';
import { enclose } from '../scripts/enclosure/index.ts';
import { PerchInstance } from '../tests/setup/perch-instance.ts';
import { BareGuests } from './bare-guest.ts';
import { type HostMeasure, type Measure, machine } from './bench.ts';
import { burst } from './burst.ts';
import { create } from './create.ts';
import { disks } from './disks.ts';
import { exec } from './exec.ts';
import { type Figure, figure } from './figures.ts';
import { files } from './files.ts';
import { fork } from './fork.ts';
import { describeMachine } from './machine.ts';
import { memory } from './memory.ts';
import { pause } from './pause.ts';
import { ready } from './ready.ts';
import { table } from './table.ts';

/** `exec` first: it looks at the memory of daemons that have done nothing else. */
const measures: Record<string, Measure> = { exec, files, create, burst, ready, pause, memory, fork };
const hostMeasures: Record<string, HostMeasure> = { disks };
const names = [...Object.keys(hostMeasures), ...Object.keys(measures)];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'string' }, 'at-most': { type: 'string' } },
});
const atMost = Number(values['at-most'] ?? Number.POSITIVE_INFINITY);
if (!(atMost >= 1)) {
  console.error('--at-most is a number of samples, from 1.');
  process.exit(2);
}
const unknown = positionals.find((name) => !names.includes(name));
if (unknown !== undefined) {
  console.error(`There is no measure ${unknown}. There are: ${names.join(', ')}.`);
  process.exit(2);
}

await enclose(async () => ({}));
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => stop.abort(new Error(`Ended by ${signal}.`)));
}
const figures: Figure[] = [];
try {
  await run();
} catch (error) {
  console.error(`${styleText('red', '✗')} ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
// Also of a run that broke off: what it measured counts.
if (figures.length > 0) console.log(`\n${table(figures)}`);
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(figures, undefined, 2)}\n`);

async function run(): Promise<void> {
  for (const [what, is] of await describeMachine()) describe(what, is);
  const wanted = positionals.length > 0 ? positionals : names;
  for (const name of wanted) {
    for (const measured of (await hostMeasures[name]?.({ signal: stop.signal, progress })) ?? [])
      figures.push(figure(measured));
  }
  const ofPerch = wanted.flatMap((name) => measures[name] ?? []);
  if (ofPerch.length > 0) await runWithPerch(ofPerch);
}

async function runWithPerch(wanted: readonly Measure[]): Promise<void> {
  progress('starting a Perch');
  // Its end fails when anything is left over.
  await using instance = await PerchInstance.start({ network: 214 });
  const [host] = await instance.perch.hosts.list();
  describe('monitor', host?.vmm ?? 'unknown');
  const sandbox = await instance.perch.sandboxes.create(machine);
  await using bare = await BareGuests.like(instance, sandbox);
  for (const measure of wanted) {
    const bench = { instance, sandbox: sandbox.id, bare, atMost, signal: stop.signal, progress };
    for (const measured of await measure(bench)) figures.push(figure(measured));
  }
  progress('taking it down');
}

function describe(what: string, is: string): void {
  console.log(`  ${what.padEnd(16)}${is}`);
}

function progress(text: string): void {
  console.log(`${styleText('bold', '▶')} ${text}`);
}
