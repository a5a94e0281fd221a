/** How all of our programs are compiled. */
import type { BuildOptions } from 'esbuild';

export const common = {
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  outExtension: { '.js': '.mjs' },
  logLevel: 'error',
} as const satisfies BuildOptions;

/** Packages with a native part or a program of their own, which they find by their own place. */
export const external = ['koffi', 'pg-native', 'esbuild'];

/** CommonJS packages inside an ES module expect `require`. */
export const withRequire = {
  js: "const require = process.getBuiltinModule('node:module').createRequire(import.meta.url);",
};
