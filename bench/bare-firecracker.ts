/** Firecracker as the monitor of bare guests: in a directory that is all it sees, for its state names paths of a jail. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { FirecrackerApi } from '../apps/host-agent/src/vmm/firecracker/api.ts';
import { jailRoot } from '../apps/host-agent/src/vmm/firecracker/jail.ts';
import {
  type ApiRequest,
  loadRequest,
  pause,
  resume,
  saveRequest,
} from '../apps/host-agent/src/vmm/firecracker/requests.ts';
import { run } from '../packages/node-kit/src/index.ts';
import { vmsDir } from '../tests/setup/machine.ts';
import type { BareVm, StartedVm } from './bare-vm.ts';

const callMs = 120_000;
/** Those that a jailer makes: name, major and minor number. */
const devices = [
  ['dev/kvm', '10', '232'],
  ['dev/net/tun', '10', '200'],
  ['dev/urandom', '1', '9'],
] as const;

export class BareFirecracker {
  readonly kind = 'firecracker';
  readonly source: string;
  /** The program, too. */
  readonly shared = ['kernel', 'initramfs', 'memfile', 'snapfile', 'firecracker'];

  private constructor(source: string) {
    this.source = source;
  }

  /** That of a sandbox; undefined when the sandbox runs under another. */
  static of(dataDir: string, id: string): BareFirecracker | undefined {
    const jail = jailRoot({ dir: join(vmsDir(dataDir), id), id });
    return existsSync(jail) ? new BareFirecracker(jail) : undefined;
  }

  async prepare(dir: string): Promise<void> {
    await mkdir(join(dir, 'dev/net'), { recursive: true });
    for (const [name, major, minor] of devices) await run('mknod', [join(dir, name), 'c', major, minor]);
  }

  spawn({ dir }: BareVm): ChildProcess {
    const args = ['/firecracker', '--id', 'bare', '--api-sock', '/api.sock', '--level', 'Error'];
    return spawn('chroot', [dir, ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  }

  async untilRunning(vm: StartedVm, signal: AbortSignal): Promise<void> {
    await send(vm, [loadRequest(vm.tap, 'File'), resume], signal);
  }

  /** Stops the guest and writes what has changed since it was loaded. */
  async save(vm: StartedVm, signal: AbortSignal): Promise<void> {
    await send(vm, [pause, saveRequest('Diff')], signal);
  }
}

async function send(
  { dir, pid }: StartedVm,
  requests: readonly ApiRequest[],
  signal: AbortSignal,
): Promise<void> {
  const api = await FirecrackerApi.open({ dir, name: 'api.sock', pid, uid: 0 }, signal);
  try {
    for (const request of requests) await api.send(request, callMs);
  } finally {
    api.close();
  }
}
