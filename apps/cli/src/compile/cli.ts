/** The command line: a file for each command and for what several share, each loaded when it is needed. */
import { readFile } from 'node:fs/promises';
import { dirname, relative } from 'node:path';
import type { BuildOptions, Plugin } from 'esbuild';
import { common, external, withRequire } from './options.ts';

export function cli(root: string): BuildOptions {
  return {
    ...common,
    entryPoints: { run: 'apps/cli/src/run.ts' },
    splitting: true,
    external,
    banner: { js: `${withRequire.js}\n${checkout}` },
    define: { 'import.meta.dirname': '__folderOfSource', 'import.meta.filename': '__source' },
    plugins: [builtins, placesOfSources(root)],
  };
}

/** The compiled folder is two below the checkout. */
const checkout =
  "const __checkout = process.getBuiltinModule('node:path').resolve(import.meta.dirname, '../..');";

/**
 * An `import` of a module of Node's loads all that it could give, such as the whole of Web Crypto. That of TLS costs as
 * much as Node's own start, and is there for addresses that few have.
 */
const builtins: Plugin = {
  name: 'modules of Node as they are needed',
  setup(build) {
    const [namespace, late] = ['builtin', 'late builtin'];
    const builtin = (path: string) => `process.getBuiltinModule(${JSON.stringify(path)})`;
    build.onResolve({ filter: /^(https|tls|zlib)$/ }, ({ path, kind }) =>
      kind === 'require-call' ? { path, namespace: late } : undefined,
    );
    build.onResolve({ filter: /^node:/ }, ({ path }) => ({ path, namespace, sideEffects: false }));
    build.onLoad({ filter: /^/, namespace }, ({ path }) => ({
      contents: `module.exports = ${builtin(path)};`,
    }));
    build.onLoad({ filter: /^/, namespace: late }, ({ path }) => ({
      contents: `module.exports = new Proxy({}, { get: (_, name) => ${builtin(path)}[name] });`,
    }));
  },
};

/** Our modules find other files of the checkout by their own place, which is no longer that of their code. */
function placesOfSources(root: string): Plugin {
  return {
    name: 'places of sources',
    setup(build) {
      build.onLoad({ filter: /\.m?[jt]s$/ }, async ({ path }) => {
        if (path.includes('/node_modules/')) return undefined;
        const source = await readFile(path, 'utf8');
        if (!source.includes('import.meta.')) return undefined;
        const place = (of: string) => `__checkout + ${JSON.stringify(`/${relative(root, of)}`)}`;
        return {
          contents: `const __source = ${place(path)}, __folderOfSource = ${place(dirname(path))}; ${source}`,
          loader: path.endsWith('ts') ? 'ts' : 'js',
        };
      });
    },
  };
}
