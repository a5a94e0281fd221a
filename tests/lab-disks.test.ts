import { beforeAll, describe, expect, test } from 'vitest';
import { factsOf, labFileSystems, labMs } from './setup/lab-facts.ts';

/** On ext4 the other kind is what a host takes by itself. */
const rootfs: Record<string, string> = { ext4: 'device-mapper', xfs: 'auto' };

describe.each(labFileSystems)('on disks of device-mapper, on %s,', (type) => {
  /** By name, what `setup/disks-in-lab.ts` saw. */
  let facts: Record<string, unknown>;

  beforeAll(async () => {
    facts = await factsOf(['disks-in-lab.ts', rootfs[type] ?? ''], '--data', type);
  }, labMs);

  test('a sandbox runs under KVM, over one base device', () => {
    expect(facts.host).toEqual([{ disk: 'dm-snapshot', vmm: expect.stringContaining('kvm') }]);
    expect(facts.created).toMatchObject({ devices: { disks: 1, bases: 1, loops: 1 } });
    expect(facts.word).toEqual(['memory', 'disk']);
  });

  test('a paused sandbox has no device, and goes on with its disk and memory', () => {
    expect(facts.paused).toEqual({ disks: 0, bases: 0, loops: 0 });
    // Its memory and what was written; the room of a whole disk, 1024 MiB, was taken ahead.
    expect(facts.kept).toBeLessThan(400 * 2 ** 20);
    expect(facts.resumed).toEqual({ devices: { disks: 1, bases: 1, loops: 1 }, same: true });
  });

  test('a host agent that is killed finds device and loops again, and goes on with the sandbox', () => {
    expect(facts.adopted).toEqual({ devices: { disks: 1, bases: 1, loops: 1 }, same: true });
  });

  test('children of a fork have a disk each, as it was at the fork, over the same base', () => {
    expect(facts.forked).toEqual({
      devices: { disks: 3, bases: 1, loops: 1 },
      words: ['memory\nchanged\n', 'memory\nchanged\n'],
    });
  });

  test('a snapshot is the disk as it was, flattened or not, whatever its source has written since', () => {
    expect(facts['from snapshot']).toEqual({ devices: { disks: 2, bases: 1, loops: 1 }, same: true });
    expect(facts.flattened).toBe(true);
    // The flattened disk is an image of its own.
    expect(facts['from flattened']).toEqual({ devices: { disks: 2, bases: 2, loops: 2 }, same: true });
  });

  test('a device that somebody holds open is told of, and removed once it is let go, and nothing is lost', () => {
    expect(facts.held).toEqual({
      pause: expect.stringMatching(/^What sandbox \S+ held cannot be given back yet\. .*is still open/),
      ...{ devices: { disks: 1, bases: 1, loops: 1 }, status: 'pausing' },
    });
    expect(facts['let go']).toEqual({ devices: { disks: 0, bases: 0, loops: 0 }, status: 'paused' });
    expect(facts['resumed again']).toBe('memory\nchanged\n');
  });

  test('the end of all leaves no device', () => {
    expect(facts.destroyed).toEqual({ disks: 0, bases: 0, loops: 0 });
    expect(facts.down).toEqual({ devices: { disks: 0, bases: 0, loops: 0 }, leaks: [] });
  });
});
