import { expect, test } from 'vitest';
import { monitors } from './software.ts';

test('the monitor that PERCH_VMM names is looked at, with what is missing and the release that fits', async () => {
  const nowhere = { PERCH_FIRECRACKER: '/nonexistent/firecracker' };
  expect((await monitors({ PERCH_VMM: 'qemu-tcg', ...nowhere })).map(({ name }) => name)).toEqual(['QEMU']);
  expect(await monitors({ PERCH_VMM: 'firecracker', ...nowhere })).toEqual([
    {
      ...{ name: 'Firecracker', status: 'problem', detail: '/nonexistent/firecracker does not run' },
      remedy: expect.stringContaining('one release from 1.12 on'),
    },
  ]);
});

test('where none is named, a Firecracker of which a part is there is looked at too, and keeps Perch from nothing', async () => {
  const [first, second] = await monitors({ PERCH_FIRECRACKER: '/nonexistent/firecracker' });
  expect(first?.name).toBe('QEMU');
  expect(second).toMatchObject({ name: 'Firecracker', status: 'warning' });
});
