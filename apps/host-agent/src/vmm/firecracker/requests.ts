/**
 * Requests to Firecracker, as far as Perch makes them. Source: the description of its API (firecracker.yaml), 1.12 to
 * 1.16. Paths are those of the jail, the same in each: so a state goes on in another one.
 */
import type { IoLimits } from '../monitor.ts';
import { jailed } from './jail.ts';

export interface ApiRequest {
  method: 'GET' | 'PUT' | 'PATCH';
  path: string;
  body?: Readonly<Record<string, unknown>>;
}

export interface FirecrackerMachine {
  vcpus: number;
  memoryMb: number;
  kernelArguments: string;
  network: { tap: string; mac: string };
}

/** The only network card, and the only disk. */
const nic = 'eth0';
const drive = 'rootfs';

/** From an empty Firecracker to a machine that is about to run. */
export function bootRequests({ network, ...machine }: FirecrackerMachine): ApiRequest[] {
  return [
    ...kernelRequests(machine),
    put(`/drives/${drive}`, {
      ...{ drive_id: drive, path_on_host: jailed.disk, is_root_device: false, is_read_only: false },
      // Writes go to the page cache of the host: a guest that asks hears of those that failed.
      ...{ cache_type: 'Writeback', io_engine: 'Sync' },
    }),
    put(`/network-interfaces/${nic}`, { iface_id: nic, guest_mac: network.mac, host_dev_name: network.tap }),
    put('/entropy', {}),
  ];
}

/** The same of a machine without devices. */
export function kernelRequests(machine: Omit<FirecrackerMachine, 'network'>): ApiRequest[] {
  const { vcpus, memoryMb, kernelArguments } = machine;
  return [
    put('/machine-config', {
      ...{ vcpu_count: vcpus, mem_size_mib: memoryMb, smt: false },
      // From the beginning: the first state is a difference too, without the pages that nobody has touched.
      track_dirty_pages: true,
    }),
    put('/boot-source', {
      ...{ kernel_image_path: jailed.kernel, initrd_path: jailed.initramfs, boot_args: kernelArguments },
    }),
  ];
}

/**
 * Holds a machine that has been started or loaded to limits, and to no others: a state has those of the host that it was
 * saved on.
 */
export function limitRequests({ diskBytes, diskRequests, networkBytes }: IoLimits): ApiRequest[] {
  const network = { bandwidth: bucket(networkBytes), ops: bucket(undefined) };
  return [
    patch(`/drives/${drive}`, {
      drive_id: drive,
      rate_limiter: { bandwidth: bucket(diskBytes), ops: bucket(diskRequests) },
    }),
    patch(`/network-interfaces/${nic}`, {
      ...{ iface_id: nic, rx_rate_limiter: network, tx_rate_limiter: network },
    }),
  ];
}

/** Tokens that come back within a second, and as many at once. One without room is no limit. */
function bucket(perSecond: number | undefined): { size: number; refill_time: number } {
  return perSecond === undefined ? { size: 0, refill_time: 0 } : { size: perSecond, refill_time: 1000 };
}

/** Writes the state of a machine that is paused: the pages that were written since the last, or all. */
export function saveRequest(type: 'Diff' | 'Full'): ApiRequest {
  return put('/snapshot/create', {
    ...{ snapshot_type: type, snapshot_path: jailed.savedDevices, mem_file_path: jailed.savedMemory },
  });
}

/**
 * Has an empty Firecracker become a machine of a state, which stays paused.
 * @param memory where its memory is: in the file, or with whoever listens at the socket
 */
export function loadRequest(tap: string, memory: 'File' | 'Uffd'): ApiRequest {
  return put('/snapshot/load', {
    ...{ snapshot_path: jailed.devices, resume_vm: false },
    mem_backend: { backend_type: memory, backend_path: memory === 'File' ? jailed.memory : jailed.pager },
    // The name of 1.12, which later ones know too.
    enable_diff_snapshots: true,
    network_overrides: [{ iface_id: nic, host_dev_name: tap }],
  });
}

/** Has it count into a FIFO, a line with each flush. Before it has a machine. */
export const count: ApiRequest = put('/metrics', { metrics_path: jailed.metrics });
export const flush: ApiRequest = put('/actions', { action_type: 'FlushMetrics' });
export const start: ApiRequest = put('/actions', { action_type: 'InstanceStart' });
export const pause: ApiRequest = patch('/vm', { state: 'Paused' });
export const resume: ApiRequest = patch('/vm', { state: 'Resumed' });
export const describe: ApiRequest = { method: 'GET', path: '/' };
export const machineConfig: ApiRequest = { method: 'GET', path: '/machine-config' };

function put(path: string, body: Record<string, unknown>): ApiRequest {
  return { method: 'PUT', path, body };
}

function patch(path: string, body: Record<string, unknown>): ApiRequest {
  return { method: 'PATCH', path, body };
}
