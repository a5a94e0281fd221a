#!/usr/bin/env node
/** `perch`, the command line. Each loaded module is compiled once: the schemas alone take a quarter of a second. */
import { statSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';

const home = homedir();
// Code from a folder of another user's must not run as this one, as with sudo and a kept HOME.
if (statSync(home, { throwIfNoEntry: false })?.uid === process.getuid?.()) {
  enableCompileCache(join(home, '.cache/perch/compiled'));
}
const { run } = await import('./run.ts');
await run(process.argv.slice(2));
