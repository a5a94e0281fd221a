/** The command line of QEMU. Pure. */
import { basename } from 'node:path';
import { qemuProgram } from '@perch/node-kit';
import type { Accelerator } from '@perch/protocol';
import type { BlockDisk, FileDisk, VmDisk } from '../../disk/index.ts';
import { fileNames } from './vm-directory.ts';

export interface MachineSpec {
  /** Shown in the process list. */
  name: string;
  accelerator: Accelerator;
  vcpus: number;
  memoryMb: number;
  kernelArguments: string;
  disk?: VmDisk;
  /** `tapFd`: descriptor that QEMU inherits, already attached to the tap device. */
  network?: { mac: string; tapFd: number };
  /** Descriptor of /dev/kvm that QEMU inherits, since its user cannot open that. */
  kvmFd?: number;
  /** Wait for the state of another machine instead of starting from power-on. */
  incoming?: boolean;
}

/** Ids by which QMP commands name parts of the machine. */
export const ids = { console: 'console', memory: 'memory', drive: 'disk', rootDisk: 'root' } as const;

/** Bytes of console that QEMU keeps until they are read; a power of two. */
export const consoleBytes = 128 * 1024;

/** MiB of translated code that TCG keeps. Its default, an eighth of the host's memory, is no bound. */
export const translationBufferMb = 128;

/**
 * All paths are names in the working directory. The order of devices is part of the machine: a snapshot can
 * only be restored into the same one.
 */
export function qemuArguments(spec: MachineSpec): string[] {
  return [
    qemuProgram,
    ...['-name', spec.name],
    ...['-nodefaults', '-no-user-config', '-display', 'none'],
    ...machine(spec),
    ...['-kernel', fileNames.kernel, '-initrd', fileNames.initramfs, '-append', spec.kernelArguments],
    ...consoleAndMonitor,
    ...(spec.disk ? disk(spec.disk) : []),
    ...(spec.network ? network(spec.network) : []),
    ...['-object', 'rng-builtin,id=entropy', '-device', 'virtio-rng-device,id=rng0,rng=entropy'],
    // Stopped until its cgroup holds it and QMP answers.
    '-S',
    ...(spec.incoming ? incoming : []),
    // A guest that reboots or powers off leaves a stopped machine, whose console can still tell why.
    ...['-action', 'reboot=shutdown,shutdown=pause'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
  ];
}

/** The output of `xen-save-devices-state` does not begin with a section of the machine's configuration. */
const incoming = ['-incoming', 'defer', '-global', 'migration.send-configuration=off'];

/**
 * Everything that TCG can do, but for fast string instructions: told of them the guest's kernel copies and
 * clears memory by `rep movsb`, which TCG runs byte by byte. Without them it uses `rep movsq`, and moves files
 * twice as fast. And but for SMAP, for which the kernel says before and after each copy to a program that it means
 * to: TCG ends its block of code there.
 */
export const emulatedCpu = 'max,erms=off,fsrm=off,smap=off';

/**
 * Without pic=off,pit=off,rtc=on many boots of this machine type hang under TCG. What `xen-save-devices-state`
 * writes has no description at its end, and QEMU would complain of that at each restore.
 */
const microvm = 'microvm,pic=off,pit=off,rtc=on,suppress-vmdesc=on';

function machine(spec: MachineSpec): string[] {
  const memory = [
    `memory-backend-file,id=${ids.memory},size=${spec.memoryMb}M,mem-path=${fileNames.memory}`,
    // A private mapping of a file that is opened for reading only: not even a guest's balloon can change it.
    'share=off,readonly=on,rom=off',
  ].join(',');
  return [
    ...['-M', `${microvm},memory-backend=${ids.memory}`, '-bios', 'qboot.rom'],
    ...accelerator(spec),
    ...['-m', `${spec.memoryMb}M`, '-smp', `${spec.vcpus}`, '-object', memory],
  ];
}

function accelerator(spec: MachineSpec): string[] {
  if (spec.accelerator === 'tcg') {
    return ['-accel', `tcg,thread=multi,tb-size=${translationBufferMb}`, '-cpu', emulatedCpu];
  }
  if (spec.kvmFd === undefined) throw new Error('KVM needs a descriptor of /dev/kvm');
  return ['-add-fd', `fd=${spec.kvmFd},set=1`, '-accel', 'kvm,device=/dev/fdset/1', '-cpu', 'host'];
}

const consoleAndMonitor = [
  // A file would be unbounded, and a pipe would stop the guest when nobody reads it.
  ...['-chardev', `ringbuf,id=${ids.console},size=${consoleBytes}`, '-serial', `chardev:${ids.console}`],
  ...[
    '-chardev',
    `socket,id=qmp,path=${fileNames.qmp},server=on,wait=off`,
    '-mon',
    'chardev=qmp,mode=control',
  ],
];

/** By -drive, which makes a back end with a name: only of those `cont` forgets that a write has failed. */
function disk(of: VmDisk): string[] {
  const drive = ['if=none', `id=${ids.drive}`, `node-name=${ids.rootDisk}`, 'discard=unmap'];
  return [
    ...(of.kind === 'file' ? fileDisk(of, drive) : blockDisk(of, drive)),
    // On a full host the machine stands still and keeps the request; any other error is the guest's.
    ...['-device', `virtio-blk-device,id=disk0,drive=${ids.drive},werror=enospc,rerror=report`],
  ];
}

/** The chain is spelled out, so that a backing file named in the layer's header means nothing. */
function fileDisk({ path, format, below }: FileDisk, drive: readonly string[]): string[] {
  if ((below[0]?.format ?? format) === 'qcow2') throw new Error('A qcow2 layer needs the image below it');
  const nodes: object[] = [];
  let backing: string | undefined;
  for (const [i, file] of below.entries()) {
    const [name, filename] = [`below${i}`, basename(file.path)];
    // Sealed files, which the monitor that wrote them may still have open: a lock of its would mean nothing.
    nodes.push({ driver: 'file', 'node-name': `${name}-file`, filename, 'read-only': true, locking: 'off' });
    const node = { driver: file.format, 'node-name': name, file: `${name}-file`, 'read-only': true };
    nodes.push(backing === undefined ? node : { ...node, backing });
    backing = name;
  }
  const top = [
    ...[...drive, `driver=${format}`],
    ...['file.driver=file', `file.filename=${basename(path)}`, 'file.discard=unmap'],
    ...(backing === undefined ? [] : [`backing=${backing}`]),
  ];
  return [...nodes.flatMap((node) => ['-blockdev', JSON.stringify(node)]), '-drive', top.join(',')];
}

/**
 * Past the page cache of the device, which each VM would have of its own. The kernel would also write that back later,
 * when nobody can be told any more that the host is full.
 */
function blockDisk({ path }: BlockDisk, drive: readonly string[]): string[] {
  const device = ['driver=raw', 'file.driver=host_device', `file.filename=${basename(path)}`];
  return ['-drive', [...drive, 'cache.direct=on', ...device, 'file.discard=unmap'].join(',')];
}

function network({ mac, tapFd }: NonNullable<MachineSpec['network']>): string[] {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(mac)) throw new Error(`not a MAC address: ${mac}`);
  return [
    ...['-netdev', `tap,id=net0,fd=${tapFd},vhost=off`],
    // In every slot it has the same neighbour, which need not be told of it after a restore.
    ...['-device', `virtio-net-device,id=nic0,netdev=net0,guest_announce=off,mac=${mac}`],
  ];
}
