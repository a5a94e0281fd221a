/** The daemons: one file each, with its map. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BuildOptions, Plugin } from 'esbuild';
import { common, external, withRequire } from './options.ts';

const launcher = 'apps/cli/src/launcher';
const entryPoints = {
  'perch-host': 'apps/host-agent/src/main.ts',
  // A thread of it.
  'digest-thread': 'apps/host-agent/src/images/digest-thread.ts',
  perchd: 'apps/control-plane/src/main.ts',
  'until-ready': `${launcher}/until-ready.ts`,
  'renew-certificate': `${launcher}/renew-certificate.ts`,
};

export function daemons(root: string): BuildOptions {
  return {
    ...common,
    entryPoints,
    sourcemap: 'linked',
    sourcesContent: false,
    inject: [join(root, launcher, 'mapped-stacks.ts')],
    external,
    banner: withRequire,
    plugins: [mapOnlyOurs],
  };
}

/** A source map that maps no more than the first character. */
const noMap = Buffer.from('{"version":3,"sources":[""],"mappings":"AAAA"}').toString('base64');

/**
 * With the packages the whole map would be 40 MB of memory in a daemon that shows a stack. Frames in packages show their
 * place in the bundle instead.
 */
const mapOnlyOurs: Plugin = {
  name: 'map only our own code',
  setup(build) {
    build.onLoad({ filter: /\/node_modules\/.*\.[cm]?js$/ }, async ({ path }) => ({
      contents: `${await readFile(path, 'utf8')}\n//# sourceMappingURL=data:application/json;base64,${noMap}`,
      loader: 'default',
    }));
  },
};
