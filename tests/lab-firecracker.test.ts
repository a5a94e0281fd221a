/** Firecracker itself, in the lab host: no other machine of the tests needs to have it. */
import { beforeAll, describe, expect, test } from 'vitest';
import type { JailView } from './setup/jail.ts';
import { factsOf, labMs } from './setup/lab-facts.ts';

const none = { disks: 0, bases: 0, loops: 0 };
const one = { disks: 1, bases: 1, loops: 1 };

describe('sandboxes of a host that nobody tells its monitor, and that has Firecracker and XFS,', () => {
  /** By name, what `setup/disks-in-lab.ts` saw. */
  let facts: Record<string, unknown>;

  beforeAll(async () => {
    facts = await factsOf(['disks-in-lab.ts', 'auto', 'auto'], '--data', 'xfs');
  }, labMs);

  test('run commands, under Firecracker and on disks of device-mapper', () => {
    expect(facts.host).toEqual([{ disk: 'dm-snapshot', vmm: expect.stringMatching(/firecracker/i) }]);
    expect(facts.created).toMatchObject({ devices: one });
    expect(facts.word).toEqual(['memory', 'disk']);
  });

  test('see in their jail what they are made of, and nothing of another', () => {
    const { files, mounts, open } = facts.jail as JailView;
    // Where the kernel has it.
    delete files['dev/userfaultfd'];
    expect(files).toEqual({
      'api.sock': 'socket 700 own',
      dev: 'directory 700 own',
      'dev/kvm': 'char 600 own',
      'dev/net': 'directory 700 own',
      'dev/net/tun': 'char 600 own',
      'dev/urandom': 'char 600 own',
      firecracker: 'file 755 root',
      'firecracker.pid': 'file 600 root',
      initramfs: 'file 444 root',
      kernel: 'file 444 root',
      memfile: 'file 444 root',
      metrics: 'other 600 own',
      rootfs: 'block 600 own',
      run: 'directory 700 own',
      snapfile: 'file 444 root',
    });
    expect(mounts).toEqual(['/']);
    const directory = /^.*\/vms\/([^/]+)\//;
    expect(new Set(open.flatMap((path) => directory.exec(path)?.[1] ?? [])).size).toBe(1);
    const devices = ['/dev/kvm', '/dev/net/tun', '/dev/null'];
    expect(open.map((path) => path.replace(directory, ''))).toEqual([
      ...['console', 'monitor.log', ...devices, '/memfile', '/metrics', '/rootfs'],
    ]);
  });

  test('go on from a pause with disk and memory', () => {
    expect(facts.paused).toEqual(none);
    expect(facts.kept).toBeLessThan(400 * 2 ** 20);
    expect(facts.resumed).toEqual({ devices: one, same: true });
    expect(facts['resumed again']).toBe('memory\nchanged\n');
  });

  test('go on with a host agent that is killed and started again', () => {
    expect(facts.adopted).toEqual({ devices: one, same: true });
  });

  test('are forked, and become snapshots that others start from, flattened or not', () => {
    expect(facts.forked).toEqual({
      devices: { disks: 3, bases: 1, loops: 1 },
      words: ['memory\nchanged\n', 'memory\nchanged\n'],
    });
    expect(facts['from snapshot']).toMatchObject({ same: true });
    expect(facts.flattened).toBe(true);
    expect(facts['from flattened']).toMatchObject({ same: true });
  });

  test('leave nothing', () => {
    expect(facts.destroyed).toEqual(none);
    expect(facts.down).toEqual({ devices: none, leaks: [] });
  });
});
