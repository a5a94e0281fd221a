/** A process that makes a disk ends in the middle. Needs device-mapper, as a lab host has it. */
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { failpoints } from '../../failpoints/index.ts';
import { dmNames } from '../../linux/index.ts';
import { DiskPlaces, TestGuest } from '../test-guest.ts';
import { createDeviceMapperDisks, deviceMapperLacks } from './index.ts';

const instance = randomUUID().slice(0, 6);
const disks = createDeviceMapperDisks(instance);
const devices = () => dmNames().filter((name) => name.startsWith(`perch-${instance}-`));
const places = failpoints.filter((name) => name.startsWith('disk.'));

const program = `
  import { armFailpointsOf } from ${JSON.stringify(import.meta.resolve('../../failpoints/index.ts'))};
  import { createDeviceMapperDisks } from ${JSON.stringify(import.meta.resolve('./index.ts'))};
  const [armed, instance, spec, from] = process.argv.slice(1);
  armFailpointsOf(armed);
  await createDeviceMapperDisks(instance).create(JSON.parse(spec), JSON.parse(from));
`;

describe.skipIf(deviceMapperLacks() !== undefined)('a disk whose maker ended', () => {
  test.each(places)('at %s is removed, as its record or its name has it, and made again', async (name) => {
    using on = new DiskPlaces();
    const spec = on.vm('one');
    const endAt = () => {
      const armed = on.file('armed', `${name}\n`, 0o644);
      const args = [armed, instance, JSON.stringify(spec), JSON.stringify(on.fromImage)];
      const { signal, stderr } = spawnSync(
        process.execPath,
        ['--input-type=module', '-e', program, '--', ...args],
        { encoding: 'utf8' },
      );
      expect([signal, existsSync(armed)], stderr).toEqual(['SIGKILL', false]);
      expect(devices().length > 0).toBe(name !== 'disk.store');
    };
    endAt();
    await disks.remove(spec);
    expect([devices(), readdirSync(spec.dir)]).toEqual([[], []]);
    endAt();
    for (const left of await disks.unowned(() => new Set())) await left.remove();
    expect(devices()).toEqual([]);
    await disks.remove(spec);
    const guest = new TestGuest(await disks.create(spec, on.fromImage));
    expect(guest.has(97, 0)).toBe(true);
    await disks.remove(spec);
    expect([devices(), readdirSync(join(on.root, 'vm-one'))]).toEqual([[], []]);
  });
});
