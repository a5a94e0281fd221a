/** Ready guests and the room that they give back. */
import { expect, test } from 'vitest';
import type { Journal, SandboxRecord } from '../journal/index.ts';
import type { Registry } from '../sandbox/index.ts';
import { Admission } from './admission.ts';
import { Reservations } from './reservations.ts';

const gibibyte = 2 ** 30;
const shape = { memory_mb: 512, disk_mb: 1024 };

/** A host with 1 GiB of disk left beside guests that stand ready, each of which has taken 1 GiB. */
function host(guests: number) {
  const world = { freeBytes: gibibyte, guests };
  const record = (_: unknown, index: number) => ({ id: `ready${index}`, kind: 'ready', ...shape });
  const reservations = new Reservations({
    admission: new Admission({
      memoryMb: 100_000,
      monitor: { overheadMb: () => 0, diskMb: () => 0 },
      room: { freeBytes: async () => world.freeBytes },
      disks: { promisedBytes: (bytes) => bytes },
    }),
    journal: {
      list: () => Array.from({ length: world.guests }, record) as SandboxRecord[],
    } satisfies Pick<Journal, 'list'>,
    registry: {
      sandboxes: () => [],
      find: () => ({ resources: { takenBytes: async () => gibibyte } }),
    } as unknown as Registry,
    giveWay: async () => {
      if (world.guests === 0) return false;
      world.guests--;
      world.freeBytes += gibibyte;
      return true;
    },
  });
  return { world, reservations };
}

test('as many ready guests go as a disk needs the room of', async () => {
  const { world, reservations } = host(5);
  await reservations.assertFits({ ...shape, disk_mb: 3 * 1024 });
  expect(world.guests).toBe(3);
});

test('none goes for a disk that has no room without them either', async () => {
  const { world, reservations } = host(5);
  const refused = reservations.assertFits({ ...shape, disk_mb: 7 * 1024 });
  await expect(refused).rejects.toMatchObject({ code: 'capacity_exhausted', details: { resource: 'disk' } });
  expect(world.guests).toBe(5);
});
