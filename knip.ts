/** Which code is reached from where. Patterns with `!` hold for production too, which is all but tests. */
import type { KnipConfig } from 'knip';

/** As in `scripts/layer-rules.ts`. */
const tests = [
  'src/**/*.test.ts',
  'src/**/*testing.ts',
  'src/**/test-*.ts',
  'src/**/testing/**',
  'src/tests/**',
];
const project = ['src/**/*.ts!', ...tests.map((pattern) => `!${pattern}!`)];

const config: KnipConfig = {
  ignoreExportsUsedInFile: true,
  ignoreBinaries: [
    'setpriv',
    'qemu-img',
    'qemu-io',
    'losetup',
    'ip',
    'unshare',
    'chroot',
    'mkfifo',
    'mount',
    'umount',
    'rmmod',
    'script',
  ],
  ignoreDependencies: ['oxlint', 'oxlint-tsgolint'],
  exclude: ['types'],
  workspaces: {
    '.': {
      entry: [
        'scripts/*.{ts,mjs}!',
        'scripts/enclosure/testing.ts',
        'tests/**/*.ts',
        'bench/main.ts!',
        'lab/main.ts!',
      ],
      project: [
        '{scripts,images,bench,lab}/**/*.{ts,mjs}!',
        'tests/**/*.ts',
        '!**/*.test.ts!',
        '!**/testing.ts!',
      ],
    },
    'apps/*': { entry: ['src/main.ts!'], project },
    // A thread.
    'apps/host-agent': { entry: ['src/main.ts!', 'src/images/digest-thread.ts!'], project },
    'apps/cli': {
      entry: ['bin/perch.mjs!', 'src/launcher/{mapped-stacks,renew-certificate,until-ready}.ts!'],
      project: ['bin/*.mjs!', ...project],
    },
    // Nobody else has these: what is exported to nobody here is dead.
    'packages/*': { project, includeEntryExports: true },
    'packages/sdk': { project },
    // Only tests arm them.
    'packages/failpoints': { project },
  },
};

export default config;
