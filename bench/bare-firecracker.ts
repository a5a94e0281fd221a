/** Firecracker as the monitor of a bare guest: in a directory that is all it sees, for its state names paths of a jail. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { FirecrackerApi } from '../apps/host-agent/src/vmm/firecracker/api.ts';
import { jailRoot } from '../apps/host-agent/src/vmm/firecracker/jail.ts';
import { loadRequest, pause, resume, saveRequest } from '../apps/host-agent/src/vmm/firecracker/requests.ts';
import { run } from '../packages/node-kit/src/index.ts';
import { vmsDir } from '../tests/setup/machine.ts';

const callMs = 120_000;
/** Those that a jailer makes: name, major and minor number. */
const devices = [
  ['dev/kvm', '10', '232'],
  ['dev/net/tun', '10', '200'],
  ['dev/urandom', '1', '9'],
] as const;

/** Files of a sandbox's jail that it shares with others, and the program. */
export const sharedByFirecracker = ['kernel', 'initramfs', 'memfile', 'snapfile', 'firecracker'];

/** The jail of a sandbox that runs under Firecracker. */
export const jailOf = (dataDir: string, id: string): string =>
  jailRoot({ dir: join(vmsDir(dataDir), id), id });

export async function makeDevices(dir: string): Promise<void> {
  await mkdir(join(dir, 'dev/net'), { recursive: true });
  for (const [name, major, minor] of devices) await run('mknod', [join(dir, name), 'c', major, minor]);
}

export function spawnFirecracker(dir: string): ChildProcess {
  const args = ['/firecracker', '--id', 'bare', '--api-sock', '/api.sock', '--level', 'Error'];
  return spawn('chroot', [dir, ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
}

/** A Firecracker that was spawned, as its API answers. */
export class BareFirecracker implements Disposable {
  readonly #api: FirecrackerApi;

  private constructor(api: FirecrackerApi) {
    this.#api = api;
  }

  static async open(dir: string, pid: number, signal: AbortSignal): Promise<BareFirecracker> {
    return new BareFirecracker(await FirecrackerApi.open({ dir, name: 'api.sock', pid, uid: 0 }, signal));
  }

  /** Becomes the machine of the state, which runs. */
  async load(tap: string): Promise<void> {
    for (const request of [loadRequest(tap, 'File'), resume]) await this.#api.send(request, callMs);
  }

  /** Stops the machine and writes what has changed since it was loaded. */
  async save(): Promise<void> {
    for (const request of [pause, saveRequest('Diff')]) await this.#api.send(request, callMs);
  }

  [Symbol.dispose](): void {
    this.#api.close();
  }
}
