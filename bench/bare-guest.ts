/**
 * Guests without Perch: the machine of a sandbox, restored by nothing but its monitor, on taps in our own network
 * namespace. Command line and files are those of a sandbox that runs, so that all are the same machine and go
 * on from the same snapshot.
 */
import { type ChildProcess, execFile } from 'node:child_process';
import { once } from 'node:events';
import { link, mkdtemp, readFile, rm } from 'node:fs/promises';
import { get, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type DiskBackend, diskKinds } from '../apps/host-agent/src/disk/index.ts';
import { giveIdentity, guestPort } from '../apps/host-agent/src/guest/index.ts';
import { newAccessToken, type Sandbox } from '../packages/protocol/src/index.ts';
import type { PerchInstance } from '../tests/setup/perch-instance.ts';
import { BareFirecracker } from './bare-firecracker.ts';
import type { BareMonitor } from './bare-monitor.ts';
import { BareQemu } from './bare-qemu.ts';
import type { StartedVm } from './bare-vm.ts';

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

/** Makes bare guests of one kind, ten at a time at most. */
export class BareGuests implements AsyncDisposable {
  readonly #monitor: BareMonitor;
  readonly #state: string;
  readonly #disks: DiskBackend;
  readonly #sandbox: Sandbox;
  readonly #proof: string;

  private constructor(parts: {
    monitor: BareMonitor;
    /** The state that the sandbox went on from. */
    state: string;
    disks: DiskBackend;
    sandbox: Sandbox;
    proof: string;
  }) {
    this.#monitor = parts.monitor;
    this.#state = parts.state;
    this.#disks = parts.disks;
    this.#sandbox = parts.sandbox;
    this.#proof = parts.proof;
  }

  /** Guests like that of `sandbox`, which has to run, as it was created, for as long as they are made. */
  static async like({ dataDir }: PerchInstance, sandbox: Sandbox): Promise<BareGuests> {
    const snapshot = join(dataDir, 'sandboxes', sandbox.id, '0');
    const { access_token: proof } = JSON.parse(await readFile(join(snapshot, 'identity.json'), 'utf8'));
    const monitor = BareFirecracker.of(dataDir, sandbox.id) ?? (await BareQemu.of(sandbox.id));
    for (const way of ways) await addWay(way);
    const { format } = JSON.parse(await readFile(join(snapshot, 'rootfs.meta'), 'utf8'));
    const kind = Object.values(diskKinds).find((one) => one.format === format);
    if (!kind) throw new Error(`There is no kind of disk with layers of ${format}.`);
    return new BareGuests({
      ...{ monitor, state: snapshot, disks: kind.create('bench0'), sandbox, proof },
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
    const monitor = this.#monitor;
    for (const name of monitor.shared) await link(join(monitor.source, name), join(dir, name));
    const disk = { id: way.id, dir, uid: 0, sizeBytes: this.#sandbox.disk_mb * 2 ** 20 };
    const [base, layer] = ['rootfs.base', 'rootfs.cow'].map((name) => join(this.#state, name)) as [
      string,
      string,
    ];
    await this.#disks.create(disk, {
      format: this.#disks.capabilities.format,
      ...{ base, layers: [layer] },
    });
    await monitor.prepare(dir);
    return new BareGuest({
      ...{ dir, way, monitor, proof: this.#proof },
      removeDisk: () => this.#disks.remove(disk),
    });
  }

  get monitor(): BareMonitor['kind'] {
    return this.#monitor.kind;
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
  readonly #monitor: BareMonitor;
  readonly #proof: string;
  readonly #removeDisk: () => Promise<void>;
  #process: ChildProcess | undefined;

  constructor(parts: {
    dir: string;
    way: Way;
    monitor: BareMonitor;
    proof: string;
    removeDisk: () => Promise<void>;
  }) {
    this.#dir = parts.dir;
    this.#way = parts.way;
    this.#monitor = parts.monitor;
    this.#proof = parts.proof;
    this.#removeDisk = parts.removeDisk;
  }

  /** From nothing to the first answer of the guest agent. */
  async start(): Promise<void> {
    const child = this.#monitor.spawn({ dir: this.#dir, tap: this.#way.tap });
    this.#process = child;
    const ended = once(child, 'exit').then(() => Promise.reject(new Error('The monitor ended.')));
    const signal = AbortSignal.timeout(startTimeoutMs);
    const running = this.#monitor.untilRunning(this.#started, signal);
    await Promise.race([ended, running.then(() => firstAnswer(this.#way, signal))]);
    ended.catch(() => {});
  }

  /** Stops the guest and writes its state. @throws Error where its monitor writes none by itself */
  async save(): Promise<void> {
    const monitor = this.#monitor;
    if (monitor.kind !== 'firecracker') throw new Error(`A bare ${monitor.kind} writes no state.`);
    await monitor.save(this.#started, AbortSignal.timeout(startTimeoutMs));
  }

  get #started(): StartedVm {
    return { dir: this.#dir, tap: this.#way.tap, pid: this.#process?.pid ?? 0 };
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
    const child = this.#process;
    if (child && child.exitCode === null && child.signalCode === null) {
      const gone = once(child, 'close');
      child.kill('SIGKILL');
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
