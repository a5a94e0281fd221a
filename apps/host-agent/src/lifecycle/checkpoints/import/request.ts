/** The request of an import. */
import type { HostImported, HostMachine, HostSnapshotImport } from '@perch/protocol';
import type { BootFiles, ImageStore } from '../../../images/index.ts';
import type { VmMonitor } from '../../../vmm/index.ts';
import type { DiskRoom } from '../../journal/index.ts';

/** The host's own, which a directory may refer to or say nothing about. */
export interface ImportHost {
  machine: HostMachine;
  monitor: Pick<VmMonitor, 'recognises'>;
  boot: Pick<BootFiles, 'kernelId' | 'initramfsId'>;
  images: Pick<ImageStore, 'rootfsOf'>;
  room: DiskRoom;
}

export type ImportRequest = Pick<HostSnapshotImport, 'directory' | 'facts' | 'access_token'>;

/** Taken from this host, since neither the directory nor the request said it. */
export type Assumed = HostImported['assumed'];
