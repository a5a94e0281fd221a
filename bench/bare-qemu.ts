/** QEMU as the monitor of bare guests: by the command line of a sandbox, for one who may open devices. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectWhenListening } from '../apps/host-agent/src/linux/index.ts';
import { qemuProgram } from '../packages/node-kit/src/index.ts';
import type { BareVm, StartedVm } from './bare-vm.ts';

export class BareQemu {
  readonly kind = 'qemu';
  readonly source: string;
  readonly shared = ['kernel', 'initramfs', 'memfile', 'snapfile'];
  readonly #args: readonly string[];

  private constructor(source: string, args: readonly string[]) {
    this.source = source;
    this.#args = args;
  }

  /** That of a sandbox, which carries the sandbox's name. @throws Error when there is none */
  static async of(id: string): Promise<BareQemu> {
    for (const pid of await readdir('/proc')) {
      if (!/^\d+$/.test(pid)) continue;
      const line = await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '');
      const args = line.split('\0').slice(0, -1);
      if (args[0]?.includes('qemu') && args[args.indexOf('-name') + 1]?.endsWith(id))
        return new BareQemu(`/proc/${pid}/cwd`, args.slice(1));
    }
    throw new Error(`No process is the VM monitor of ${id}.`);
  }

  async prepare(_dir: string): Promise<void> {}

  spawn({ dir, tap }: BareVm): ChildProcess {
    const args = unconfined(this.#args, tap);
    return spawn(qemuProgram, args, { cwd: dir, stdio: ['ignore', 'ignore', 'inherit'] });
  }

  async untilRunning({ dir }: StartedVm, signal: AbortSignal): Promise<void> {
    const qmp = await connectWhenListening(join(dir, 'qmp.sock'), signal, 1);
    try {
      let said = '';
      qmp.setEncoding('latin1').on('data', (text) => {
        said += text;
      });
      qmp.write('{"execute":"qmp_capabilities"}');
      while (!said.includes('"status": "running"')) {
        qmp.write('{"execute":"query-status"}');
        await sleep(2, undefined, { signal });
      }
    } finally {
      qmp.destroy();
    }
  }
}

/** The same machine for one who may open devices, started at once and with nobody who steers it. */
function unconfined(args: readonly string[], tap: string): string[] {
  const kept: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const [option = '', value = ''] = args.slice(i, i + 2);
    if (option === '-S') continue;
    i++;
    if (option === '-add-fd') continue;
    if (option === '-incoming') kept.push(option, 'file:snapfile');
    else if (option === '-name') kept.push(option, 'perch-bench');
    else if (option === '-netdev')
      kept.push(option, `tap,id=net0,ifname=${tap},script=no,downscript=no,vhost=off`);
    else if (option === '-accel' && value.startsWith('kvm')) kept.push(option, 'kvm');
    else if (value.startsWith('-') || (value === '' && i >= args.length)) {
      kept.push(option);
      i--;
    } else kept.push(option, value);
  }
  return kept;
}
