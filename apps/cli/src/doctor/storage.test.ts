import { expect, test } from 'vitest';
import { cloning } from './storage.ts';

test('a file system without reflinks is well for qcow2, and XFS is recommended for device-mapper', () => {
  expect(cloning('/x on xfs', true, 'device-mapper', true)).toMatchObject({
    ...{ status: 'ok', detail: '/x on xfs, with reflinks' },
  });
  const told = (kind: string, dm: boolean) => cloning('/x on ext4', false, kind, dm);
  for (const dm of [true, false]) expect(told('qcow2', dm)).toEqual(told('auto', false));
  expect(told('auto', false)).toMatchObject({ status: 'ok', detail: expect.not.stringContaining('XFS') });
  expect(told('auto', true)).toMatchObject({ status: 'ok', detail: expect.stringContaining('mkfs.xfs') });
  expect(told('device-mapper', true)).toMatchObject({
    ...{ status: 'warning', detail: expect.stringContaining('guests stand still') },
    remedy: expect.stringContaining('mkfs.xfs'),
  });
});
