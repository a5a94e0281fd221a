/** One lab host: a QEMU that ends with its runner, and the agent that runs commands in it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { Duplex } from 'node:stream';
import { QmpClient } from '../apps/host-agent/src/vmm/qemu/qmp/index.ts';
import { createGuestClient, type GuestClient } from '../packages/guest-client/src/index.ts';
import { printable } from '../packages/node-kit/src/index.ts';
import { type LabHardware, labArguments } from './arguments.ts';
import { runInLab } from './command.ts';
import { LabDied } from './died.ts';
import { isHealthy, untilHealthy, watchdog } from './health.ts';
import { resume } from './migration.ts';

export interface LabMachine extends AsyncDisposable {
  readonly agent: GuestClient;
  readonly qmp: QmpClient;
  /** Rejects with LabDied when the machine ends by itself or its agent no longer answers. Never resolves. */
  readonly died: Promise<never>;
  /** Why a call of the agent broke off: it waits for what the watchdog says. */
  brokeOff(error: Error): Promise<LabDied>;
}

/** No secret: a lab holds nothing but the checkout, and its port is on this machine's loopback. */
const accessToken = 'lab';
const greetingMs = 60_000;
/** The end of a console that is shown of a lab that died. */
const consoleBytes = 2048;
/** A file without a name, of open(2): `__O_TMPFILE | O_DIRECTORY`. */
const O_TMPFILE = 0o20200000;

/**
 * @param state of a lab to go on from; its agent must answer within `limitMs`, as that of one that boots
 * @throws LabDied
 */
export async function startLab(
  hardware: LabHardware,
  state: string | undefined,
  limitMs: number,
): Promise<LabMachine> {
  const console = await open(tmpdir(), constants.O_RDWR | O_TMPFILE, 0o600);
  // A runner that is killed takes its lab with it.
  const command = ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...labArguments(hardware)];
  const qemu = spawn('setpriv', command, {
    stdio: ['pipe', 'pipe', 'pipe', console.fd],
    // Ctrl-C of a terminal is for the command, and would end QEMU.
    detached: true,
  });
  let errors = '';
  qemu.stderr?.on('data', (chunk: Buffer) => {
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
    await ended.catch(() => {});
    await console.close();
  };
  try {
    return await Promise.race([ended, begin()]);
  } catch (error) {
    await end();
    throw error;
  }

  async function begin(): Promise<LabMachine> {
    const stream = Duplex.from({ readable: qemu.stdout, writable: qemu.stdin });
    const qmp = await QmpClient.open(stream, AbortSignal.timeout(greetingMs), { timeoutMs: greetingMs });
    const port = await agentPort(qmp);
    if (state !== undefined) await resume(qmp, state);
    await untilHealthy(port, limitMs);
    if (state === undefined) await introduce(port);
    const agent = createGuestClient({ address: '127.0.0.1', port, accessToken, sandboxId: 'lab' });
    // Its clock is that of the moment when its state was written.
    if (state !== undefined) await runInLab(agent, 'date', ['--set', new Date().toISOString()]);
    const died = Promise.race([ended, watchdog(port, watch.signal)]);
    died.catch(() => {});
    return {
      ...{ agent, qmp, died },
      async brokeOff(error) {
        const alive = await isHealthy(port);
        return alive ? new LabDied(`The lab lost the command: ${error.message}`) : await died.catch((e) => e);
      },
      async [Symbol.asyncDispose]() {
        await agent.close();
        await end();
      },
    };
  }
}

/** The port of this machine that QEMU got for the lab's agent. */
async function agentPort(qmp: QmpClient): Promise<number> {
  const table = await qmp.execute('human-monitor-command', { 'command-line': 'info usernet' });
  const port = /TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)/.exec(String(table))?.[1];
  if (port === undefined) throw new Error(`QEMU tells no port of the lab's agent: ${table}`);
  return Number(port);
}

/** Gives the agent of a lab that has booted its identity, without which it runs nothing. */
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

async function lastLines(console: FileHandle): Promise<string> {
  const { size } = await console.stat();
  const from = Math.max(0, size - consoleBytes);
  const { buffer, bytesRead } = await console.read({ buffer: Buffer.alloc(consoleBytes), position: from });
  const text = buffer.toString('latin1', 0, bytesRead).trimEnd();
  return text.split('\n').map(printable).join('\n');
}

async function exited(child: ChildProcess): Promise<string> {
  return await new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
}
