import { expect, test } from 'vitest';
import { type MemoryWay, mayCopy, meansLacking, memoryWay, type RestoreSetting } from './memory-way.ts';

const ways: [RestoreSetting, reflinks: boolean, pager: boolean, oneFile: MemoryWay, chain: MemoryWay][] = [
  ['auto', true, true, 'mapped', 'composed'],
  ['auto', true, false, 'mapped', 'composed'],
  ['auto', false, true, 'mapped', 'paged'],
  ['auto', false, false, 'mapped', 'copied'],
  ['file', true, true, 'mapped', 'copied'],
  ['file', false, false, 'mapped', 'copied'],
  ['reflink', true, true, 'mapped', 'composed'],
  ['pager', true, true, 'paged', 'paged'],
];

test.each(ways)('%s, reflinks: %s, pager: %s', (setting, hasReflinks, hasPager, oneFile, chain) => {
  const means = { setting, hasReflinks, hasPager };
  expect(memoryWay(means, true)).toBe(oneFile);
  expect(memoryWay(means, false)).toBe(chain);
  expect(mayCopy(means)).toBe(chain === 'copied');
  expect(meansLacking(means)).toBeUndefined();
});

test('a host that lacks what it is told to use says so', () => {
  const nothing = { hasReflinks: false, hasPager: false };
  expect(meansLacking({ setting: 'reflink', ...nothing })).toMatch(/no reflinks.*mkfs\.xfs/);
  expect(meansLacking({ setting: 'pager', ...nothing })).toMatch(/no perch-pager.*npm run setup/);
  expect(meansLacking({ setting: 'auto', ...nothing })).toBeUndefined();
});
