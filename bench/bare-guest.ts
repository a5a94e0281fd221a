/**
 * Guests without Perch: the machine of a sandbox, restored by nothing but its monitor, on taps in our own network
 * namespace. Command line and files are those of a sandbox that runs, so that all are the same machine and go
 * on from the same snapshot.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { link, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { get, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { type DiskBackend, diskKinds } from '../apps/host-agent/src/disk/index.ts';
import { giveIdentity, guestPort } from '../apps/host-agent/src/guest/index.ts';
import { connectWhenListening } from '../apps/host-agent/src/linux/index.ts';
import { qemuProgram } from '../packages/node-kit/src/index.ts';
import { newAccessToken, type Sandbox } from '../packages/protocol/src/index.ts';
import type { PerchInstance } from '../tests/setup/perch-instance.ts';
import {
  BareFirecracker,
  jailOf,
  makeDevices,
  sharedByFirecracker,
  spawnFirecracker,
} from './bare-firecracker.ts';

const run = promisify(execFile);
/** Most bare guests at a time. */
const most = 10;
/** As in every slot. A guest that goes on knows its gateway's MAC, and hears of no other for half a minute. */
const guest = { address: '169.254.0.21', mac: '02:fc:00:00:00:05' };
const gateway = { address: '169.254.0.22/30', mac: '02:fc:00:00:00:06' };
/** All guests have the same address. One of ours leads to each: to the first that which any guest knows as its gateway. */
const ways = Array.from({ length: most }, (_, i) => ({
  ...{ id: `bare${i}`, tap: `perch-bench${i}`, table: 2100 + i },
  source: i === 0 ? '169.254.0.22' : `198.18.0.${i}`,
}));
type Way = (typeof ways)[number];
const startTimeoutMs = 120_000;
/** Files of a sandbox's VM that it shares with others. */
const sharedByQemu = ['kernel', 'initramfs', 'memfile', 'snapfile'];

/** Makes bare guests of one kind, ten at a time at most. */
export class BareGuests implements AsyncDisposable {
  readonly #source: string;
  readonly #state: string;
  readonly #disks: DiskBackend;
  readonly #args: string[] | undefined;
  readonly #sandbox: Sandbox;
  readonly #proof: string;

  private constructor(parts: {
    /** The directory of the sandbox's VM, as its monitor sees it. */
    source: string;
    /** The state that it went on from. */
    state: string;
    disks: DiskBackend;
    /** Of QEMU; undefined for Firecracker. */
    args: string[] | undefined;
    sandbox: Sandbox;
    proof: string;
  }) {
    this.#source = parts.source;
    this.#state = parts.state;
    this.#disks = parts.disks;
    this.#args = parts.args;
    this.#sandbox = parts.sandbox;
    this.#proof = parts.proof;
  }

  /** Guests like that of `sandbox`, which has to run, as it was created, for as long as they are made. */
  static async like({ dataDir }: PerchInstance, sandbox: Sandbox): Promise<BareGuests> {
    const snapshot = join(dataDir, 'sandboxes', sandbox.id, '0');
    const { access_token: proof } = JSON.parse(await readFile(join(snapshot, 'identity.json'), 'utf8'));
    const jail = jailOf(dataDir, sandbox.id);
    const qemu = existsSync(jail) ? undefined : await findMonitor(sandbox.id);
    for (const way of ways) await addWay(way);
    const { format } = JSON.parse(await readFile(join(snapshot, 'rootfs.meta'), 'utf8'));
    const kind = Object.values(diskKinds).find((one) => one.format === format);
    if (!kind) throw new Error(`There is no kind of disk with layers of ${format}.`);
    return new BareGuests({
      ...{ source: qemu ? `/proc/${qemu.pid}/cwd` : jail, state: snapshot, disks: kind.create('bench0') },
      ...{ args: qemu?.args, sandbox, proof },
    });
  }

  /**
   * A machine that is ready to start. The files that its monitor reads are prepared before the clock runs.
   * @param index from 0, of those that are there at the same time
   */
  async prepare(index = 0): Promise<BareGuest> {
    const way = ways[index];
    if (!way) throw new Error(`There are ${most} bare guests at most.`);
    const dir = await mkdtemp(join(tmpdir(), 'perch-bench-'));
    const shared = this.#args ? sharedByQemu : sharedByFirecracker;
    for (const name of shared) await link(join(this.#source, name), join(dir, name));
    const disk = { id: way.id, dir, uid: 0, sizeBytes: this.#sandbox.disk_mb * 2 ** 20 };
    const [base, layer] = ['rootfs.base', 'rootfs.cow'].map((name) => join(this.#state, name)) as [
      string,
      string,
    ];
    await this.#disks.create(disk, {
      format: this.#disks.capabilities.format,
      ...{ base, layers: [layer] },
    });
    if (!this.#args) await makeDevices(dir);
    return new BareGuest({
      ...{ dir, way },
      args: this.#args && unconfined(this.#args, way),
      proof: this.#proof,
      removeDisk: () => this.#disks.remove(disk),
    });
  }

  /** Whether a guest can be stopped and its state written. */
  get canSave(): boolean {
    return this.#args === undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { tap } of ways) await run('ip', ['link', 'delete', tap]);
    for (const { table } of ways.slice(1)) await run('ip', ['rule', 'delete', 'table', `${table}`]);
  }
}

export class BareGuest implements AsyncDisposable {
  readonly address = guest.address;
  readonly accessToken = newAccessToken();
  readonly #dir: string;
  readonly #way: Way;
  readonly #args: string[] | undefined;
  readonly #proof: string;
  readonly #removeDisk: () => Promise<void>;
  #monitor: ChildProcess | undefined;

  constructor(parts: {
    dir: string;
    way: Way;
    args: string[] | undefined;
    proof: string;
    removeDisk: () => Promise<void>;
  }) {
    this.#dir = parts.dir;
    this.#way = parts.way;
    this.#args = parts.args;
    this.#proof = parts.proof;
    this.#removeDisk = parts.removeDisk;
  }

  /** From nothing to the first answer of the guest agent. */
  async start(): Promise<void> {
    const monitor = this.#args
      ? spawn(qemuProgram, this.#args, { cwd: this.#dir, stdio: ['ignore', 'ignore', 'inherit'] })
      : spawnFirecracker(this.#dir);
    this.#monitor = monitor;
    const ended = once(monitor, 'exit').then(() => Promise.reject(new Error('The monitor ended.')));
    const signal = AbortSignal.timeout(startTimeoutMs);
    await Promise.race([ended, this.#untilRunning(signal).then(() => firstAnswer(this.#way, signal))]);
    ended.catch(() => {});
  }

  /** Stops the guest and writes its state, where `BareGuests.canSave`. */
  async save(): Promise<void> {
    using firecracker = await this.#firecracker(AbortSignal.timeout(startTimeoutMs));
    await firecracker.save();
  }

  async #untilRunning(signal: AbortSignal): Promise<void> {
    if (this.#args) return await untilRunning(join(this.#dir, 'qmp.sock'), signal);
    using firecracker = await this.#firecracker(signal);
    await firecracker.load(this.#way.tap);
  }

  #firecracker(signal: AbortSignal): Promise<BareFirecracker> {
    return BareFirecracker.open(this.#dir, this.#monitor?.pid ?? 0, signal);
  }

  /** Makes the agent of the first take commands with our token, as a sandbox's does with its own. */
  async identify(): Promise<void> {
    const identity = {
      ...{ sandboxId: 'bare', templateId: 'base', number: 2, proof: this.#proof },
      ...{ accessToken: this.accessToken, env: {}, defaultUser: 'user' },
    };
    await giveIdentity(guest.address, identity, AbortSignal.timeout(startTimeoutMs));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const monitor = this.#monitor;
    if (monitor && monitor.exitCode === null && monitor.signalCode === null) {
      const gone = once(monitor, 'close');
      monitor.kill('SIGKILL');
      await gone;
    }
    await this.#removeDisk();
    await rm(this.#dir, { recursive: true });
  }
}

/** Asked as soon as the guest runs: what is sent before is lost, and sent again only after a second. */
async function firstAnswer({ source }: Way, signal: AbortSignal): Promise<void> {
  const url = `http://${guest.address}:${guestPort}/health`;
  const request = get(url, { localAddress: source, agent: false, signal });
  const [{ statusCode }] = (await once(request, 'response')) as [IncomingMessage];
  request.destroy();
  if (statusCode !== 204) throw new Error(`The bare guest answered with ${statusCode}.`);
}

async function addWay({ tap, source, table }: Way): Promise<void> {
  const first = source === gateway.address.split('/')[0];
  const commands = [
    `tuntap add dev ${tap} mode tap vnet_hdr`,
    `link set ${tap} address ${gateway.mac} up`,
    `address add ${first ? gateway.address : `${source}/32`} dev ${tap}`,
    `neighbour add ${guest.address} lladdr ${guest.mac} dev ${tap} nud permanent`,
    ...(first
      ? []
      : [`route add ${guest.address} dev ${tap} table ${table}`, `rule add from ${source} table ${table}`]),
  ];
  const batch = execFile('ip', ['-batch', '-']);
  batch.stdin?.end(commands.join('\n'));
  const [code] = await once(batch, 'exit');
  if (code !== 0) throw new Error(`${tap} cannot be made.`);
}

/** @param path QEMU's QMP socket */
async function untilRunning(path: string, signal: AbortSignal): Promise<void> {
  const qmp = await connectWhenListening(path, signal, 1);
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

/** The QEMU of a sandbox, which carries the sandbox's name. */
async function findMonitor(id: string): Promise<{ pid: number; args: string[] }> {
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const line = await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '');
    const args = line.split('\0').slice(0, -1);
    if (args[0]?.includes('qemu') && args[args.indexOf('-name') + 1]?.endsWith(id)) {
      return { pid: Number(pid), args: args.slice(1) };
    }
  }
  throw new Error(`No process is the VM monitor of ${id}.`);
}

/** The same machine for one who may open devices, started at once and with nobody who steers it. */
function unconfined(args: readonly string[], { tap }: Way): string[] {
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
