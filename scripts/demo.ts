/**
 * `npm run demo`: the main job on real input. Starts a Perch of its own, runs code in a virtual machine, moves
 * files, and leaves nothing behind. Ends well only when every step did.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { styleText } from 'node:util';
import { newApiKey } from '../packages/protocol/src/index.ts';
import { Perch } from '../packages/sdk/src/index.ts';

const cli = join(import.meta.dirname, '../apps/cli/bin/perch.mjs');
const fileBytes = 10 * 1024 * 1024;

const program = `
import platform, sys
primes = [n for n in range(2, 60) if all(n % d for d in range(2, n))]
print("Python", sys.version.split()[0], "on", platform.system(), platform.release())
print("primes:", *primes)
`;

const timings: [what: string, ms: number][] = [];
// Its own whatever the environment says: that may name a Perch in use, and all is taken down in the end.
const dataDir = await mkdtemp(join(tmpdir(), 'perch-demo-'));
const key = newApiKey();
const listen = `127.0.0.1:${await freePort()}`;
const env = {
  ...process.env,
  PERCH_DATA_DIR: dataDir,
  PERCH_LISTEN: listen,
  PERCH_NETWORK: process.env.PERCH_NETWORK ?? '10.213.0.0/16',
  PERCH_API_KEY: key,
  // A database of its own, too.
  DATABASE_URL: '',
};

let launcher: ChildProcess | undefined;
// The work under way fails when Perch stops, and all of it is taken down as ever. A terminal tells both.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => launcher?.kill('SIGTERM'));
try {
  await main();
} catch (error) {
  console.error(`${styleText('red', '✗')} ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
} finally {
  if (launcher?.exitCode === null) launcher.kill('SIGTERM');
}

async function main(): Promise<void> {
  heading('Start Perch');
  let failed: unknown;
  try {
    await timed('perch up', startPerch);
    await useSandbox(new Perch({ url: `http://${listen}`, apiKey: key }));
  } catch (error) {
    failed = error;
  }
  heading('Take everything down');
  await timed('perch down', () => runCli('down', '--yes'));
  await rm(dataDir, { recursive: true });
  if (failed) throw failed;
  heading('Timings');
  for (const [what, ms] of timings) console.log(`  ${what.padEnd(44)}${ms.toFixed(0).padStart(8)} ms`);
  console.log(`\n${styleText('green', '✓')} Everything worked, and nothing is left behind.`);
  console.log('  Keep a Perch running with `npm start`.');
}

async function useSandbox(perch: Perch): Promise<void> {
  heading('Create a sandbox: a virtual machine of its own');
  const { id, vcpus, memory_mb } = await timed('create', () => perch.sandboxes.create());
  console.log(`  ${id}: ${vcpus} vCPU, ${memory_mb} MiB`);

  heading('Run a Python program in it');
  const result = await timed('exec python3 (first)', () =>
    perch.sandboxes.exec(id, { cmd: 'python3', args: ['-c', program] }),
  );
  process.stdout.write(indent(result.stdout));
  if (result.exit_code !== 0) throw new Error(`The program ended with ${result.exit_code}: ${result.stderr}`);
  await timed('exec true', () => perch.sandboxes.exec(id, { cmd: 'true' }));

  heading('Stream a command line by line');
  const script = 'for i in 1 2 3 4 5; do echo "line $i"; sleep 0.3; done';
  await timed('stream, 5 lines in 1.5 s', async () => {
    const stream = await perch.sandboxes.execStream(id, { cmd: 'bash', args: ['-c', script] });
    const began = performance.now();
    let lines = 0;
    let exitCode: number | undefined;
    for await (const event of stream) {
      if (event.type === 'exit') {
        exitCode = event.exit_code;
        continue;
      }
      lines += (event.text ?? '').split('\n').length - 1;
      process.stdout.write(
        indent(event.text ?? '', `+${((performance.now() - began) / 1000).toFixed(1)} s  `),
      );
    }
    if (exitCode !== 0 || lines !== 5)
      throw new Error(`Of 5 lines ${lines} came, and then exit code ${exitCode}.`);
  });

  heading('Upload and download a 10 MiB file');
  const data = randomBytes(fileBytes);
  const sum = sha256(data);
  const { files } = perch.sandboxes;
  await timed('upload 10 MiB', () => files.write(id, '/home/user/data.bin', data));
  const inside = await perch.sandboxes.exec(id, { cmd: 'sha256sum', args: ['/home/user/data.bin'] });
  const back = await timed('download 10 MiB', () => files.read(id, '/home/user/data.bin'));
  console.log(`  sent      ${sum}\n  inside    ${inside.stdout.split(' ')[0]}\n  received  ${sha256(back)}`);
  if (!inside.stdout.startsWith(sum) || sha256(back) !== sum) throw new Error('The checksums differ.');

  heading('Destroy the sandbox');
  await timed('destroy', () => perch.sandboxes.delete(id));
}

async function startPerch(): Promise<void> {
  const child = spawn(process.execPath, [cli, 'up', '--json'], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  launcher = child;
  const ready = Promise.withResolvers<void>();
  createInterface(child.stdout).on('line', (line) => {
    const event = JSON.parse(line) as { event: string; name?: string; ms?: number };
    if (event.event === 'step') console.log(`  ✓ ${event.name} (${event.ms} ms)`);
    if (event.event === 'ready') ready.resolve();
  });
  child.once('exit', () => ready.reject(new Error('Perch did not start.')));
  await ready.promise;
}

async function runCli(...args: string[]): Promise<void> {
  const child = spawn(process.execPath, [cli, ...args], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  child.stdout.on('data', (chunk: Buffer) => process.stdout.write(indent(chunk.toString())));
  const [code] = (await once(child, 'close')) as [number];
  if (code !== 0) throw new Error(`perch ${args.join(' ')} ended with ${code}.`);
}

async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  const began = performance.now();
  const result = await work();
  timings.push([what, performance.now() - began]);
  return result;
}

function heading(text: string): void {
  console.log(`\n${styleText('bold', `▶ ${text}`)}`);
}

function indent(text: string, prefix = ''): string {
  return text.replace(/^(?=.)/gm, `  ${prefix}`);
}

function sha256(data: Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
