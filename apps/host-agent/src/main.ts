/** perch-host: the root daemon that owns the VMs, disks and networks of one machine. */
import { chmod, chown, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { failuresOf } from '@perch/node-kit';
import { type HostInfo, type HostMachine, limits, version as ownVersion } from '@perch/protocol';
import { type Logger, pino } from 'pino';
import { createServer } from './api/index.ts';
import { type Config, hostPaths, readConfig } from './config.ts';
import { chooseDisks } from './disk/index.ts';
import { exitCodeOf } from './exit-code.ts';
import { armFailpointsOf } from './failpoints/index.ts';
import { giveIdentity, holdDisk, letGoOfDisk, waitForAgent, warmUp, writeOut } from './guest/index.ts';
import { adoptBootFiles, adoptProgram, ImageStore } from './images/index.ts';
import {
  Admission,
  BootSnapshots,
  checkpointMerger,
  DiskRoom,
  defaultMemoryMb,
  fsck,
  Journal,
  Lifecycle,
  SavedStates,
  SnapshotStore,
} from './lifecycle/index.ts';
import { pressureOf } from './linux/index.ts';
import { createMetrics } from './metrics.ts';
import { createNetworkLayer, findUplinkDns, type NetworkLayer } from './network/index.ts';
import { requireOneFileSystem } from './one-file-system.ts';
import { disksInUse, requireOneKindOfDisk } from './one-kind-of-disk.ts';
import {
  keepKind,
  kindOfStates,
  monitorsInUse,
  onlyKind,
  requireMonitorThatFits,
  requireMonitorThatLimits,
} from './one-kind-of-monitor.ts';
import { lookUpUser } from './user.ts';
import { type MonitorProbe, monitors, probeMonitor } from './vmm/index.ts';

/** How long a guest may take until its agent answers; a busy machine without KVM takes tens of seconds. */
const bootTimeoutMs = 120_000;

/** Most of what is resumed soon is resumed within it. */
const mergeQuietMs = 1000;

/** Beyond this share of the time in which some process waits for memory, percent, no guest is made that nobody asked for. */
const memoryPressure = 10;

process.title = 'perch-host';
process.umask(0o077);

let log = pino({ base: { program: 'perch-host' } });
try {
  const config = await readConfig();
  log = pino({ level: config.logLevel, base: { program: 'perch-host', instance: config.instance } });
  if (config.failpoints) {
    log.warn({ file: config.failpoints }, 'this process ends or waits where the file says');
    armFailpointsOf(config.failpoints);
  }
  await serve(config, log);
} catch (error) {
  // The launcher shows the message of the last.
  const failures = failuresOf(error);
  for (const err of failures.toReversed()) log.fatal({ err }, 'perch-host cannot start');
  setImmediate(() => process.exit(exitCodeOf(failures[0])));
}

async function serve(config: Config, log: Logger): Promise<void> {
  const paths = hostPaths(config.dataDir);
  const user = await lookUpUser(config.user);
  const linked = ['host', 'vms', 'boot', 'images', 'sandboxes', 'snapshots', 'bootSnapshots'] as const;
  await requireOneFileSystem(
    config.dataDir,
    linked.map((name) => paths[name]),
  );
  await mkdir(paths.host, { recursive: true });
  await chmod(paths.host, 0o711);
  const journal = new Journal(paths.journal);
  const { disks, only } = await openDisks(config, journal, log);
  const network = await openNetwork(config, journal, user.uid, log);

  const images = new ImageStore(paths.images);
  await images.open();
  await images.import('base', config.baseImage.path, config.baseImage.contentId);
  const boot = await adoptBootFiles(paths.boot, config.kernel, config.initramfs);
  const probe = await probeMonitor({ ...boot, cacheFiles: paths.probes, force: config.vmm, only, log });
  log.info({ probe }, 'monitor probed');
  requireMonitorThatLimits(probe.choice, config.limits);

  const room = new DiskRoom({ dir: config.dataDir, keepMb: config.keepDiskMb });
  const { instance, restore } = config;
  const { choice, version } = probe;
  const served = monitors[choice].capabilities.memory === 'chosen' ? config.pager : undefined;
  const pager = served && (await adoptProgram(paths.boot, served, 'perch-pager'));
  const monitor = await monitors[choice].create({
    ...{ instance, version, restore, dir: paths.host, pager, log },
    prefetch: { dir: paths.workingSets, limitMib: config.prefetchMb },
    limits: config.limits,
  });
  keepKind(journal, choice);
  const machine: HostMachine = { ...monitor.machine, disk: { format: disks.capabilities.format } };
  const admission = new Admission({
    memoryMb: config.memoryMb ?? defaultMemoryMb(),
    ...{ monitor, room, disks },
  });
  const saved = new SavedStates({
    dir: paths.sandboxes,
    ...{ disks, room, machine },
    baseImage: (contentId) => images.rootfsOf(contentId),
    keep: config.history,
  });
  const snapshots = new SnapshotStore({ dir: paths.snapshots, log });
  const bootSnapshots = new BootSnapshots({
    dir: paths.bootSnapshots,
    machine,
    limit: config.bootSnapshots,
    log,
  });
  const merge = checkpointMerger({
    ...{ disks, network, saved, room, vmsDir: paths.vms },
    bounds: config.mergeBounds,
  });
  const lifecycle = new Lifecycle({
    ...{ journal, machine, network, disks, monitor, saved, bootSnapshots, snapshots },
    guest: { waitForAgent, giveIdentity, warmUp, writeOut, holdDisk, letGoOfDisk },
    images,
    ...{ admission, room },
    vmsDir: paths.vms,
    diskRoots: [paths.vms, paths.sandboxes, paths.snapshots, paths.bootSnapshots],
    boot,
    bootTimeoutMs,
    ready: { ...config.ready, mayGrow: () => hasTime(config.ready.pressure) },
    merges: { merge, quietMs: mergeQuietMs },
    log,
  });
  await lifecycle.start();

  const info = () => describe(config, machine, probe, lifecycle, network, images);
  let stopping: Promise<void> | undefined;
  const stop = (remove: boolean) => {
    stopping ??= (async () => {
      if (remove) await lifecycle.destroyAll();
      await lifecycle.stop();
      await network.stop({ remove });
      journal.close();
    })();
    return stopping;
  };
  const shutdown = async (remove: boolean) => {
    await stop(remove);
    setImmediate(() => void app.close());
  };
  const metrics = createMetrics(lifecycle, info, monitor);
  const app = createServer({
    ...{ lifecycle, info, metrics, shutdown, log },
    fsck: (repair) =>
      fsck(
        {
          ...{ journal, network, monitor, disks, vmsDir: paths.vms, sandboxesDir: paths.sandboxes },
          ...{ snapshotsDir: paths.snapshots, bootSnapshotsDir: paths.bootSnapshots, bootSnapshots },
        },
        repair,
      ),
  });
  await listen(app, paths, user.gid);
  log.info({ socket: paths.hostSocket }, 'perch-host is ready');
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info({ signal }, 'stopping; sandboxes run on');
      void app.close().then(() => stop(false));
    });
  }
}

/** Whether the machine has time for what nobody waits for. A kernel that does not say has. */
function hasTime(cpuPressure: number): boolean {
  return (pressureOf('cpu') ?? 0) <= cpuPressure && (pressureOf('memory') ?? 0) <= memoryPressure;
}

/**
 * The kind that sandboxes run on, else the one that the setting or the machine says.
 * @returns the only kind of monitor too that goes with them and with all that is there
 */
async function openDisks({ dataDir, rootfs, instance, vmm }: Config, journal: Journal, log: Logger) {
  const { host, vms, sandboxes, snapshots } = hostPaths(dataDir);
  const wanted = requireOneKindOfDisk(rootfs, await disksInUse({ instance, journal, vmsDir: vms }));
  const { kind, disks, refused } = await chooseDisks(wanted, { instance, dir: join(host, 'disk-trial') });
  const areFiles = disks.capabilities.format === 'qcow2';
  const inUse = monitorsInUse(journal);
  requireMonitorThatFits(vmm, inUse, { kind, areFiles });
  log.info({ kind, refused }, 'disks chosen');
  const ofStates = await kindOfStates(journal, [sandboxes, snapshots]);
  return { disks, only: onlyKind(inUse, ofStates, { kind, areFiles }) };
}

/** Slots are addresses: sandboxes that hold some keep the range from changing. */
async function openNetwork(
  config: Config,
  journal: Journal,
  perchUid: number,
  log: Logger,
): Promise<NetworkLayer> {
  const before = journal.setting('network');
  if (before !== undefined && before !== config.network && journal.list().length > 0) {
    throw new Error(
      `PERCH_NETWORK is ${config.network}, and there are sandboxes in ${before}. ` +
        `Start with PERCH_NETWORK=${before}, or destroy them first: PERCH_NETWORK=${before} perch down`,
    );
  }
  journal.setSetting('network', config.network);
  return createNetworkLayer({
    instance: config.instance,
    cidr: config.network,
    uplinkDns: config.dns ?? (await findUplinkDns()),
    poolSize: config.slotPool,
    quarantineMs: config.slotRestMs,
    perchUid,
    log,
  });
}

/** Root may do anything with the socket, the group of the control plane may connect, others see nothing. */
async function listen(
  app: ReturnType<typeof createServer>,
  paths: ReturnType<typeof hostPaths>,
  gid: number,
) {
  await mkdir(paths.run, { recursive: true });
  await chown(paths.run, 0, gid);
  await chmod(paths.run, 0o750);
  await rm(paths.hostSocket, { force: true });
  await app.listen({ path: paths.hostSocket });
  await chown(paths.hostSocket, 0, gid);
  await chmod(paths.hostSocket, 0o660);
}

async function describe(
  config: Config,
  machine: HostMachine,
  { problems, why }: MonitorProbe,
  lifecycle: Lifecycle,
  network: NetworkLayer,
  images: ImageStore,
): Promise<HostInfo> {
  const list = await images.list();
  const smallest = {
    memory_mb: limits.memoryMb.min,
    disk_mb: Math.max(limits.diskMb.min, Math.min(...list.map(({ disk_mb }) => disk_mb))),
  };
  // Asked once: it looks at every file of every sandbox.
  const room = await lifecycle.reservations.capacity();
  return {
    host_id: config.instance,
    instance: config.instance,
    version: ownVersion,
    ready: problems.length === 0,
    problems,
    ...{ machine, why },
    memory_mb: room.memory,
    disk_mb: room.disk,
    lacks: await lifecycle.reservations.lacks(smallest, room),
    slots: network.counts(),
    templates: list,
  };
}
