import { expect, test } from 'vitest';
import { loadOrder, moduleDependencies } from './modules.ts';

test('a module loads after everything that it depends on', () => {
  const dependencies = new Map([
    ['virtio_net', ['virtio_ring', 'virtio', 'net_failover']],
    ['net_failover', ['failover']],
    ['failover', []],
    ['virtio', ['virtio_ring']],
    ['virtio_ring', []],
  ]);
  const order = loadOrder(['virtio_net', 'virtio'], dependencies);
  expect(order).toEqual(['virtio_ring', 'virtio', 'failover', 'net_failover', 'virtio_net']);
});

test('a module that is built into the kernel is not loaded', () => {
  expect(loadOrder(['ext4', 'virtio_blk'], new Map([['virtio_blk', ['crc16']]]))).toEqual(['virtio_blk']);
});

test('modules that depend on each other are refused', () => {
  const circle = new Map([
    ['a', ['b']],
    ['b', ['a']],
  ]);
  expect(() => loadOrder(['a'], circle)).toThrow('a → b → a');
});

test('the dependencies of a module are read from its .modinfo section', () => {
  const modinfo = (text: string) => Buffer.from(`ELF\0license=GPL\0${text}\0retpoline=Y\0`);
  expect(moduleDependencies(modinfo('depends=virtio_ring,virtio'))).toEqual(['virtio_ring', 'virtio']);
  expect(moduleDependencies(modinfo('depends='))).toEqual([]);
  expect(moduleDependencies(Buffer.from('ELF\0license=GPL\0'))).toEqual([]);
});
