import { expect, test } from 'vitest';
import { monitor } from './software.ts';

test('the monitor that PERCH_VMM names is looked at, with what is missing and the release that fits', async () => {
  expect((await monitor({})).name).toBe('QEMU');
  expect(await monitor({ PERCH_VMM: 'firecracker', PERCH_FIRECRACKER: '/nonexistent/firecracker' })).toEqual({
    ...{ name: 'Firecracker', status: 'problem', detail: '/nonexistent/firecracker does not run' },
    remedy: expect.stringContaining('one release from 1.12 on'),
  });
});
