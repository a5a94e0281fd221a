import { expect, test } from 'vitest';
import { cloning } from './storage.ts';

test('a file system without reflinks is well for qcow2, and XFS is recommended for device-mapper', () => {
  expect(cloning('/x on xfs', true, 'device-mapper')).toMatchObject({
    ...{ status: 'ok', detail: '/x on xfs, with reflinks' },
  });
  for (const kind of ['auto', 'qcow2']) expect(cloning('/x on ext4', false, kind).status).toBe('ok');
  expect(cloning('/x on ext4', false, 'device-mapper')).toMatchObject({
    ...{ status: 'warning', detail: expect.stringContaining('guests stand still') },
    remedy: expect.stringContaining('mkfs.xfs'),
  });
});
