/**
 * Pauses and resumes of one sandbox, in the lab under Firecracker: what there is of it before and after. `--cycles N`, or as
 * many as `--minutes N` are enough for.
 */
import { readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import { pids } from '../../packages/node-kit/src/index.ts';
import { entriesOf, occupied } from './disk-blocks.ts';
import { LabFacts } from './lab-facts.ts';
import { openFiles, statusField } from './machine.ts';
import { PerchInstance } from './perch-instance.ts';

export interface CycleCounts {
  /** By kind. */
  things: Record<string, number>;
  /** Of what comes and goes with sandboxes. */
  bytes: number;
  /** Each life adds one until a merge, which waits for a pause that lasts. */
  memfiles: number;
  /** Of perch-host. */
  host: { files: number; threads: number; rss: string | undefined };
}

const { values } = parseArgs({
  options: { cycles: { type: 'string', default: '100' }, minutes: { type: 'string', default: 'Infinity' } },
});
const { PERCH_VMM: vmm = 'firecracker', PERCH_ROOTFS: rootfs = 'device-mapper' } = process.env;
const facts = new LabFacts();
/** A sandbox that has been paused as often has as many checkpoints as are kept of it, and its host what it keeps open. */
const warmUp = 4;
const slow = { timeoutMs: 900_000 };
const word = 'still here';
const programs = new Set(['firecracker', 'jailer', 'perch-pager']);
/** Counted here by program, or by what they hold. */
const countedElsewhere = new Set(['process', 'snapshot']);

await using instance = await PerchInstance.start({
  network: 85,
  env: { PERCH_VMM: vmm, PERCH_ROOTFS: rootfs, PERCH_SLOT_POOL: '1' },
});
const { dataDir } = instance;
const { sandboxes } = instance.perch;
const { id } = await sandboxes.create({ memory_mb: 128, disk_mb: 1024, timeout_sec: 86_400 }, slow);
await sh(`echo ${word} > /dev/shm/word`);
facts.add('created', id);
const times = { pause: [] as number[], resume: [] as number[] };
/** How often a resume got the memory back in which way, from the first on. */
const ways: Record<string, number> = {};
for (let done = 0; done < warmUp; done++) await cycle();
for (const of of Object.values(times)) of.length = 0;
facts.add('before', await atRest());
const until = performance.now() + Number(values.minutes) * 60_000;

const total = Number(values.cycles);
while (times.resume.length < total && performance.now() < until) {
  await cycle();
  if (times.resume.length % 5 === 0) console.error(`${times.resume.length} cycles`);
}
facts.add('cycles', times.resume.length);
facts.add('ways', ways);
facts.add('after', await atRest());
for (const [name, ms] of Object.entries(times)) {
  const sorted = ms.toSorted((a, b) => a - b).map(Math.round);
  facts.add(name, { first: Math.round(ms[0] ?? 0), p50: sorted[sorted.length >> 1], most: sorted.at(-1) });
}
facts.tell();

async function cycle(): Promise<void> {
  let began = performance.now();
  await sandboxes.pause(id, slow);
  times.pause.push(performance.now() - began);
  began = performance.now();
  const { timings_ms } = await sandboxes.resume(id, slow);
  for (const name of Object.keys(timings_ms))
    if (name.startsWith('memory_')) ways[name] = (ways[name] ?? 0) + 1;
  times.resume.push(performance.now() - began);
  const found = await sh('cat /dev/shm/word');
  if (found !== `${word}\n`) throw new Error(`The memory has ${JSON.stringify(found)}.`);
}

async function sh(script: string): Promise<string> {
  const { stdout } = await sandboxes.exec(id, { cmd: 'sh', args: ['-c', script], timeout_sec: 300 }, slow);
  return stdout;
}

/** Slots and buffers come and go behind a call: counted once two looks have the same. */
async function atRest(): Promise<CycleCounts> {
  for (let before = await counts(); ; ) {
    await sleep(2000);
    const now = await counts();
    if (isDeepStrictEqual(now, before)) return { ...now, host: hostUse() };
    before = now;
  }
}

async function counts(): Promise<Omit<CycleCounts, 'host'>> {
  const entries = entriesOf(dataDir);
  const things: Record<string, number> = {};
  for (const { kind } of await instance.leaks())
    if (!countedElsewhere.has(kind)) things[kind] = (things[kind] ?? 0) + 1;
  for (const pid of pids()) {
    const name = programOf(pid);
    if (programs.has(name)) things[name] = (things[name] ?? 0) + 1;
  }
  const memfiles = new Set(entries.flatMap(({ path, inode }) => (/\/memfile/.test(path) ? [inode] : [])))
    .size;
  return { things, memfiles, bytes: occupied(entries).passing ?? 0 };
}

function hostUse(): CycleCounts['host'] {
  const pid = instance.pid('perch-host');
  return {
    files: openFiles(pid),
    threads: Number(statusField(pid, 'Threads')),
    rss: statusField(pid, 'VmRSS'),
  };
}

function programOf(pid: number): string {
  try {
    return basename(readlinkSync(`/proc/${pid}/exe`));
  } catch {
    return '';
  }
}
