import { defineConfig } from 'vitest/config';
import { slowness } from './tests/setup/slowness.ts';

/** Each has a Perch of its own, and waits more than it works: two at a time. */
const failpoints = ['tests/failpoints*.test.ts'];
const lab = ['tests/lab*.test.ts', 'tests/soak-lab.test.ts'];
/** Run by those, in the lab. */
const inLab = ['tests/in-lab/*.test.ts'];

/** What a test waits for comes late on a busy machine, and at once on any other. */
const expect = { poll: { timeout: 30_000 * slowness } };

/** For a test with real machines, ms. */
const patience = { expect, testTimeout: 180_000 * slowness, hookTimeout: 180_000 * slowness };

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['{apps,bench,packages,images,scripts}/**/*.test.ts'],
          // One for each processor: by default one is kept free, which is half of a small machine.
          maxWorkers: '100%',
          expect,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['tests/**/*.test.ts'],
          exclude: [...failpoints, ...lab, ...inLab],
          globalSetup: ['tests/setup/global-seed.ts', 'tests/setup/global.ts'],
          // One Perch serves all files. Emulated guests keep a small machine busy: a second worker gains nothing.
          maxWorkers: 1,
          ...patience,
        },
      },
      {
        test: { name: 'lab', include: lab, maxWorkers: 1, sequence: { groupOrder: 2 }, ...patience },
      },
      { test: { name: 'in-lab', include: inLab, ...patience } },
      {
        test: {
          name: 'failpoints',
          include: failpoints,
          globalSetup: ['tests/setup/global-seed.ts'],
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
          ...patience,
        },
      },
    ],
  },
});
