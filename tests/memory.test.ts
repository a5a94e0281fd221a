/** Bulk data passes through every process of the platform without piling up in any of them. */
import { createHash } from 'node:crypto';
import { beforeAll, expect, test } from 'vitest';
import { forgetPeak, mbOf, peakMb, residentMb } from './setup/memory.ts';
import { newSandbox, sh, sharedPerch } from './setup/sandbox.ts';
import { shared } from './setup/shared.ts';

const perch = sharedPerch();
const { pids } = shared;
const { sandboxes } = perch;

/** `bytes` that each way carries. */
const total = 200_000_000;
/** Input of a command comes in small messages, which takes longest. */
const inputTotal = 100_000_000;
/** Most that a process may grow by on one way, MiB. */
const most = { perchd: 64, 'perch-host': 16, 'guest agent': 16 };

let id: string;
beforeAll(async () => {
  const sandbox = await newSandbox(perch, { memory_mb: 512 });
  ({ id } = sandbox);
  // Memory that is allocated once, on first use, is no concern of these tests.
  await sandboxes.files.write(id, 'warm', new Uint8Array(10_000_000));
  for await (const _ of (await sandboxes.files.download(id, 'warm')).stream);
  await sandboxes.exec(id, { cmd: 'sha256sum', args: ['warm'] });
  return () => sandbox[Symbol.asyncDispose]();
});

/** The guest agent is process 1 of the guest. */
const guestMb = async (field: string) => mbOf(await sh(perch, id, 'sudo cat /proc/1/status'), field);

/** Runs `work`, prints what each process grew by at most, and fails when that is much. */
async function measured(way: string, work: () => Promise<unknown>): Promise<void> {
  const daemons = [
    ['perchd', pids.perchd],
    ['perch-host', pids.host],
  ] as const;
  await sh(perch, id, 'sudo sh -c "echo 5 > /proc/1/clear_refs"');
  const before = new Map<keyof typeof most, number>([['guest agent', await guestMb('VmRSS')]]);
  for (const [name, pid] of daemons) {
    await forgetPeak(pid);
    before.set(name, await residentMb(pid));
  }
  await work();
  const peaks = new Map<keyof typeof most, number>();
  for (const [name, pid] of daemons) peaks.set(name, await peakMb(pid));
  peaks.set('guest agent', await guestMb('VmHWM'));
  const lines = [...peaks].map(([name, peak]) => `${name} ${before.get(name)} → ${peak} MiB`);
  console.log(`${way}: ${lines.join(', ')}`);
  for (const [name, peak] of peaks) {
    expect.soft(peak - (before.get(name) ?? 0), name).toBeLessThan(most[name]);
  }
}

const megabyte = new Uint8Array(1_000_000).map((_, at) => (at * 7919) >> 5);

async function* source(bytes: number): AsyncGenerator<Uint8Array> {
  for (let sent = 0; sent < bytes; sent += megabyte.length) yield megabyte;
}

/** SHA-256 of what `source` gives. */
function sourceSum(bytes: number): string {
  const hash = createHash('sha256');
  for (let sent = 0; sent < bytes; sent += megabyte.length) hash.update(megabyte);
  return hash.digest('hex');
}

test('200 MB go into a file and out of it', async () => {
  await measured('files, 200 MB in', () => sandboxes.files.write(id, 'big', source(total)));
  const hash = createHash('sha256');
  await measured('files, 200 MB out', async () => {
    const { stream, size } = await sandboxes.files.download(id, 'big');
    expect(size).toBe(total);
    for await (const chunk of stream) hash.update(chunk);
  });
  expect(hash.digest('hex')).toBe(sourceSum(total));
});

test('200 MB come out of a command', async () => {
  let bytes = 0;
  await measured('exec/stream, 200 MB out', async () => {
    const args = ['-c', 'yes 0123456789abcde | head -c 200000000'];
    const stream = await sandboxes.execStream(id, { cmd: 'bash', args });
    for await (const event of stream) if (event.type === 'stdout') bytes += event.data.byteLength;
    expect(await stream.exit).toBe(0);
  });
  expect(bytes).toBe(total);
});

test('100 MB go into a command', async () => {
  let output = '';
  await measured('exec/stream, 100 MB in', async () => {
    const stream = await sandboxes.execStream(id, { cmd: 'sha256sum', stdin: true });
    const feeding = (async () => {
      for await (const chunk of source(inputTotal)) await stream.write(chunk);
      await stream.closeStdin();
    })();
    for await (const event of stream) if (event.type === 'stdout') output += event.text;
    await feeding;
  });
  expect(output).toBe(`${sourceSum(inputTotal)}  -\n`);
});
