/** Whether this host can go on where a snapshot stopped. */
import { SnapshotIncompatible } from './damaged.ts';
import type { ManifestFacts, MonitorIdentity } from './manifest.ts';

export interface HostMachine {
  monitor: MonitorIdentity;
  /** As in `ManifestFacts`. */
  cpu: string;
}

/**
 * Device state is read back only by the version that wrote it, and a guest keeps using the processor that it
 * found when it booted: on one with less it dies of SIGILL, much later.
 * @throws SnapshotIncompatible, whose message is a sentence for the user
 */
export function assertCompatible(snapshot: Pick<ManifestFacts, 'monitor' | 'cpu'>, host: HostMachine): void {
  const [then, now] = [snapshot.monitor, host.monitor];
  if (then.kind !== now.kind || then.version !== now.version) {
    throw new SnapshotIncompatible(
      `The snapshot was taken by ${label(then)} and this host runs ${label(now)}: only the same version can resume it.`,
    );
  }
  if (then.accelerator !== now.accelerator) {
    throw new SnapshotIncompatible(
      `The snapshot was taken under ${then.accelerator.toUpperCase()} and this host runs guests under ${now.accelerator.toUpperCase()}.`,
    );
  }
  if (snapshot.cpu !== host.cpu) {
    throw new SnapshotIncompatible(
      `The snapshot was taken on another processor ("${snapshot.cpu}") than this host has ("${host.cpu}"): the guest could not go on.`,
    );
  }
}

function label({ kind, version }: MonitorIdentity): string {
  return `${{ qemu: 'QEMU', firecracker: 'Firecracker' }[kind]} ${version}`;
}
