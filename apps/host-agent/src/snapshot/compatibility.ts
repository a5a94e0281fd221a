/** Whether this host can go on where a snapshot stopped. */
import { type HostMachine, type MonitorIdentity, monitorNames } from '@perch/protocol';
import { SnapshotIncompatible } from './damaged.ts';
import type { Snapshot } from './snapshot.ts';

/**
 * Device state is read back only by the version that wrote it, or by one with the same format, and a guest keeps using the processor that it found when
 * it booted: on one with less it dies of SIGILL, much later. Layers of another kind of disk are converted. A guest that is booted goes on
 * anywhere.
 * @throws SnapshotIncompatible, whose message is a sentence for the user
 */
export function assertCompatible(
  { manifest }: Pick<Snapshot, 'manifest'>,
  host: Pick<HostMachine, 'monitor' | 'cpu'>,
) {
  const [then, now] = [manifest.monitor, host.monitor];
  const formats = [then.state_format, now.state_format];
  const haveFormats = then.kind === now.kind && !formats.includes(undefined);
  if (haveFormats ? formats[0] !== formats[1] : then.kind !== now.kind || then.version !== now.version) {
    const [wrote, reads] = haveFormats ? formats.map((format) => ` (states of format ${format})`) : ['', ''];
    const which = haveFormats ? 'a version with the same format' : 'the same version';
    throw new SnapshotIncompatible(
      `The snapshot was taken by ${label(then)}${wrote} and this host runs ${label(now)}${reads}: only ${which} can resume it.`,
    );
  }
  if (then.accelerator !== now.accelerator) {
    throw new SnapshotIncompatible(
      `The snapshot was taken under ${then.accelerator.toUpperCase()} and this host runs guests under ${now.accelerator.toUpperCase()}.`,
    );
  }
  if (manifest.cpu !== host.cpu) {
    throw new SnapshotIncompatible(
      `The snapshot was taken on another processor ("${manifest.cpu}") than this host has ("${host.cpu}"): the guest could not go on.`,
    );
  }
}

function label({ kind, version }: Pick<MonitorIdentity, 'kind' | 'version'>): string {
  return `${monitorNames[kind]} ${version}`;
}
