/** One lab host: a QEMU that ends with its runner, and the agent that runs commands in it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { createServer } from 'node:net';
import { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { QmpClient } from '../apps/host-agent/src/vmm/qemu/qmp/index.ts';
import { createGuestClient, type GuestClient } from '../packages/guest-client/src/index.ts';
import { printable } from '../packages/node-kit/src/index.ts';
import { type LabHardware, labArguments } from './arguments.ts';
import { runInLab } from './command.ts';

/** The lab ended or stands still, whatever ran in it: nothing is said about that. */
export class LabDied extends Error {
  override readonly name = 'LabDied';
}

export interface LabMachine extends AsyncDisposable {
  readonly agent: GuestClient;
  readonly qmp: QmpClient;
  /** Rejects with LabDied when the machine ends by itself or its agent no longer answers. Never resolves. */
  readonly died: Promise<never>;
}

/** No secret: the agent listens on this machine's loopback, and a lab holds nothing of anybody. */
const accessToken = 'lab';
const greetingMs = 60_000;
const healthMs = 20_000;
const pauseMs = 2000;
/** So long an agent may be silent: a machine under load takes its time. */
const silenceMs = 120_000;
/** The end of a console that is shown of a lab that died. */
const consoleBytes = 2048;

/**
 * @param hardware where `port` and `console` are this machine's own
 * @param bootMs how long the agent may take until it answers
 * @throws LabDied
 */
export async function startLab(
  hardware: Omit<LabHardware, 'port'>,
  state: string | undefined,
  bootMs: number,
): Promise<LabMachine> {
  const port = await freePort();
  const console = await open(hardware.console, 'w+');
  // A runner that is killed takes its lab with it.
  const qemu = spawn(
    'setpriv',
    ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...labArguments({ ...hardware, port })],
    { stdio: ['pipe', 'pipe', 'pipe'] },
  );
  let errors = '';
  qemu.stderr.on('data', (chunk: Buffer) => {
    errors = (errors + chunk).slice(-4096);
  });
  const ended = exited(qemu).then(async (how) => {
    throw new LabDied(`The lab ended by itself (${how}). ${errors}\n${await lastLines(console)}`);
  });
  ended.catch(() => {});
  const watch = new AbortController();
  const end = async () => {
    watch.abort();
    qemu.kill('SIGKILL');
    await exited(qemu);
    await console.close();
  };
  try {
    const stream = Duplex.from({ readable: qemu.stdout, writable: qemu.stdin });
    const qmp = await Promise.race([ended, QmpClient.open(stream, { timeoutMs: greetingMs })]);
    if (state !== undefined) await resume(qmp, state);
    await Promise.race([ended, untilHealthy(port, bootMs)]);
    const agent = createGuestClient({ address: '127.0.0.1', port, accessToken, sandboxId: 'lab' });
    if (state === undefined) await introduce(port);
    else await setClock(agent);
    const died = Promise.race([ended, watchdog(port, watch.signal)]);
    died.catch(() => {});
    return {
      ...{ agent, qmp, died },
      [Symbol.asyncDispose]: async () => {
        await agent.close();
        await end();
      },
    };
  } catch (error) {
    await end();
    throw error;
  }
}

/** Has a machine go on from what `save` wrote. */
async function resume(qmp: QmpClient, state: string): Promise<void> {
  await shareMemory(qmp);
  await qmp.execute('migrate-incoming', { uri: `file:${state}` });
  await migrated(qmp);
  await qmp.execute('cont');
}

/** Stops the machine and writes its devices to `state`; the memory is in its file. */
export async function save(qmp: QmpClient, state: string): Promise<void> {
  await qmp.execute('stop');
  await shareMemory(qmp);
  await qmp.execute('migrate', { uri: `file:${state}` });
  await migrated(qmp);
}

/** The memory's file is the memory: the state holds none of it. */
async function shareMemory(qmp: QmpClient): Promise<void> {
  const capabilities = [{ capability: 'x-ignore-shared', state: true }];
  await qmp.execute('migrate-set-capabilities', { capabilities });
}

async function migrated(qmp: QmpClient): Promise<void> {
  for (;;) {
    const { status } = (await qmp.execute('query-migrate')) as { status?: string };
    if (status === 'completed') return;
    if (status === 'failed') throw new Error('QEMU could not move the state of the lab.');
    await sleep(5);
  }
}

async function untilHealthy(port: number, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await isHealthy(port, AbortSignal.timeout(1000)))) {
    if (performance.now() > deadline)
      throw new LabDied(`The lab did not answer within ${timeoutMs / 1000} s.`);
    await sleep(50);
  }
}

async function introduce(port: number): Promise<void> {
  const answer = await fetch(`http://127.0.0.1:${port}/init`, {
    method: 'POST',
    body: JSON.stringify({
      ...{ generation: 1, accessToken, sandboxId: 'lab', templateId: 'lab', hostname: 'lab' },
      ...{ machineId: randomBytes(16).toString('hex'), entropy: randomBytes(64).toString('base64') },
      timestamp: new Date().toISOString(),
    }),
  });
  if (!answer.ok) throw new Error(`The lab's agent refused: ${await answer.text()}`);
}

/** The lab's clock is that of the moment when its state was written. */
async function setClock(agent: GuestClient): Promise<void> {
  await runInLab(agent, 'date', ['--set', new Date().toISOString()]);
}

/** Rejects once the agent has been silent for too long; never resolves. */
async function watchdog(port: number, signal: AbortSignal): Promise<never> {
  let heard = performance.now();
  for (;;) {
    await sleep(pauseMs, undefined, { signal });
    if (await isHealthy(port, AbortSignal.timeout(healthMs))) heard = performance.now();
    else if (performance.now() - heard > silenceMs)
      throw new LabDied(`The lab has not answered for ${silenceMs / 1000} s.`);
  }
}

async function isHealthy(port: number, signal: AbortSignal): Promise<boolean> {
  try {
    return (await fetch(`http://127.0.0.1:${port}/health`, { signal })).ok;
  } catch {
    return false;
  }
}

/** The file may have no name any more. */
async function lastLines(console: FileHandle): Promise<string> {
  const { size } = await console.stat();
  const from = Math.max(0, size - consoleBytes);
  const { buffer, bytesRead } = await console.read({ buffer: Buffer.alloc(consoleBytes), position: from });
  const text = buffer.toString('latin1', 0, bytesRead).trimEnd();
  return text.split('\n').map(printable).join('\n');
}

async function exited(child: ChildProcess): Promise<string> {
  if (child.exitCode === null && child.signalCode === null)
    await new Promise((resolve) => child.once('exit', resolve));
  return child.signalCode ?? `exit code ${child.exitCode}`;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
