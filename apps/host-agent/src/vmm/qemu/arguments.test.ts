import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { DiskFile } from '../../disk/index.ts';
import { kernelArguments } from '../kernel-arguments.ts';
import { type MachineSpec, qemuArguments } from './arguments.ts';

const spec: MachineSpec = {
  name: 'perch-x-sb1',
  accelerator: 'tcg',
  vcpus: 2,
  memoryMb: 512,
  kernelArguments: 'console=ttyS0',
  disk: {
    ...{ kind: 'file', path: '/data/vms/sb1/rootfs.qcow2', format: 'qcow2', maxFileBytes: 1 },
    below: [{ path: '/data/vms/sb1/base.ext4', format: 'raw' }],
  },
  network: { mac: '02:00:00:00:00:01', tapFd: 3 },
};

/** The value after each `option`. */
function values(args: string[], option: string): string[] {
  return args.flatMap((arg, i) => (arg === option ? [args[i + 1] ?? ''] : []));
}

describe('the command line of QEMU', () => {
  test('names files without their directory, and the backing chain in full', () => {
    const args = qemuArguments(spec);
    expect(args.join(' ')).not.toContain('/data');
    expect(values(args, '-blockdev').map((json) => JSON.parse(json))).toEqual([
      {
        ...{ driver: 'file', 'node-name': 'below0-file', filename: 'base.ext4' },
        ...{ 'read-only': true, locking: 'off' },
      },
      { driver: 'raw', 'node-name': 'below0', file: 'below0-file', 'read-only': true },
    ]);
    expect(values(args, '-drive')).toEqual([
      'if=none,id=disk,node-name=root,discard=unmap,driver=qcow2,file.driver=file,' +
        'file.filename=rootfs.qcow2,file.discard=unmap,backing=below0',
    ]);
    const [image, one, two] = [
      { path: '/x/b', format: 'raw' },
      { path: '/x/lower-0.qcow2', format: 'qcow2' },
      { path: '/x/lower-1.qcow2', format: 'qcow2' },
    ] as const;
    const over = (...below: DiskFile[]) => {
      const disk = { kind: 'file', path: '/x/a.qcow2', format: 'qcow2', below, maxFileBytes: 1 } as const;
      return qemuArguments({ ...spec, disk });
    };
    const layered = over(image, one, two);
    const nodes = values(layered, '-blockdev').map((json) => JSON.parse(json));
    expect(nodes.filter((node) => node.backing).map((node) => [node['node-name'], node.backing])).toEqual([
      ['below1', 'below0'],
      ['below2', 'below1'],
    ]);
    expect(nodes.every((node) => node['read-only'])).toBe(true);
    expect(values(layered, '-drive')[0]).toMatch(/,file.filename=a.qcow2,.*,backing=below2$/);
    // Without one its header would be followed.
    expect(() => over()).toThrow(/below it/);
    expect(() => over(one)).toThrow(/below it/);
  });

  test('names a block device by its node in the working directory, and passes by its page cache', () => {
    const args = qemuArguments({ ...spec, disk: { kind: 'block', path: '/vms/sb1/rootfs' } });
    expect(values(args, '-blockdev')).toEqual([]);
    expect(values(args, '-drive')).toEqual([
      'if=none,id=disk,node-name=root,discard=unmap,cache.direct=on,driver=raw,' +
        'file.driver=host_device,file.filename=rootfs,file.discard=unmap',
    ]);
  });

  test('stops the machine when the host is full, and tells the guest of every other error', () => {
    expect(values(qemuArguments(spec), '-device')[0]).toBe(
      'virtio-blk-device,id=disk0,drive=disk,werror=enospc,rerror=report',
    );
  });

  test('maps guest memory privately from a file that is opened for reading', () => {
    expect(values(qemuArguments(spec), '-object')[0]).toBe(
      'memory-backend-file,id=memory,size=512M,mem-path=memfile,share=off,readonly=on,rom=off',
    );
  });

  test('starts stopped, confined, and stays for questions when the guest ends', () => {
    const args = qemuArguments(spec);
    expect(args).toContain('-S');
    expect(values(args, '-action')).toEqual(['reboot=shutdown,shutdown=pause']);
    expect(values(args, '-sandbox')).toEqual([
      'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
    ]);
  });

  test('gives KVM as a descriptor, and not without one', () => {
    const kvm: MachineSpec = { ...spec, accelerator: 'kvm', kvmFd: 4 };
    expect(values(qemuArguments(kvm), '-accel')).toEqual(['kvm,device=/dev/fdset/1']);
    expect(values(qemuArguments(kvm), '-add-fd')).toEqual(['fd=4,set=1']);
    expect(() => qemuArguments({ ...spec, accelerator: 'kvm' })).toThrow(/descriptor/);
  });

  property.prop([fc.string().filter((mac) => !/^[0-9a-f:]{17}$/i.test(mac))])(
    'takes nothing for a MAC address that could be another option',
    (mac) => {
      expect(() => qemuArguments({ ...spec, network: { mac, tapFd: 3 } })).toThrow(/MAC/);
    },
  );
});

test('the kernel is told the rate of the counter under TCG only', () => {
  const tcg = kernelArguments({ accelerator: 'tcg', tscKhz: 2445432 });
  expect(tcg).toContain('tsc_early_khz=2445432 tsc=reliable');
  expect(kernelArguments({ accelerator: 'tcg' })).not.toContain('tsc_early_khz');
  expect(kernelArguments({ accelerator: 'kvm', tscKhz: 2445432 })).not.toContain('tsc');
  for (const always of ['console=ttyS0', 'panic=-1', 'reboot=t', 'quiet']) {
    expect(tcg.split(' ')).toContain(always);
  }
});
