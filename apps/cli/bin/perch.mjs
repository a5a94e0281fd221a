#!/usr/bin/env node
/**
 * `perch`, the command line: compiled once from these sources, and kept in the checkout. Where nobody may keep it there,
 * it runs from source. Plain JavaScript, since the first TypeScript file costs Node more than all that is compiled.
 */
import { compiled } from './compiled.mjs';

// Its import would load all that the module could give.
const { statSync } = process.getBuiltinModule('node:fs');
const { enableCompileCache } = process.getBuiltinModule('node:module');
const { homedir } = process.getBuiltinModule('node:os');
const { join } = process.getBuiltinModule('node:path');

const home = homedir();
// Code from a folder of another user's must not run as this one, as with sudo and a kept HOME.
if (statSync(home, { throwIfNoEntry: false })?.uid === process.getuid?.()) {
  enableCompileCache(join(home, '.cache/perch/compiled'));
}
const folder = await compiled('cli');
const { run } = await import(folder ? join(folder, 'run.mjs') : '../src/run.ts');
await run(process.argv.slice(2));
