import { defineConfig } from 'vitest/config';

/** Each has a Perch of its own, and waits more than it works: two at a time. */
const failpoints = ['tests/failpoints*.test.ts'];
const lab = ['tests/lab*.test.ts'];
/** Run by those, in the lab. */
const inLab = ['tests/in-lab/*.test.ts'];

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['{apps,packages,images,scripts}/**/*.test.ts'],
          // One for each processor: by default one is kept free, which is half of a small machine.
          maxWorkers: '100%',
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
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
      {
        test: { name: 'lab', include: lab, testTimeout: 180_000, hookTimeout: 180_000 },
      },
      { test: { name: 'in-lab', include: inLab, testTimeout: 2_400_000, hookTimeout: 2_400_000 } },
      {
        test: {
          name: 'failpoints',
          include: failpoints,
          globalSetup: ['tests/setup/global-seed.ts'],
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
