/**
 * Holds the layers of the guest agent, and first shows that it can see: a violation of each rule, written in each
 * way that Rust has to name a module, is put beside the real files and must be found.
 */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { usesOf } from './rust-layers/modules.ts';
import { violations } from './rust-layers/rules.ts';

const src = join(import.meta.dirname, '../crates/guest-agent/src');
const fewestUses = 100;
const files = new Map(
  globSync('**/*.rs', { cwd: src }).map((path) => [path, readFileSync(join(src, path), 'utf8')]),
);

const planted: [rule: string, more: Record<string, string>][] = [
  ['upward: users::planted → routes', { 'users/planted.rs': 'use crate::routes;' }],
  [
    'upward: http::planted → process::registry',
    { 'http/planted.rs': 'use crate::{paths, process::{Processes as P}};' },
  ],
  ['upward: rpc::planted → files', { 'rpc/planted.rs': "fn f() { let c = '\"'; crate::files::handle(c) }" }],
  ['upward: identity::planted → agent', { 'identity/planted.rs': 'type A = super::super::agent::Agent;' }],
  ['no floor: planted', { 'planted.rs': 'use crate::paths;' }],
  [
    'circle: process::a → process::b → process::a',
    { 'process/a.rs': 'use super::b::B;', 'process/b.rs': 'fn f(a: super::a::A) {}' },
  ],
  [
    'circle: metrics::deep → metrics::deep::c → metrics::deep',
    { 'metrics/deep/mod.rs': 'fn f() { c::g() }', 'metrics/deep/c.rs': 'use super::f;' },
  ],
];
for (const [expected, more] of planted) {
  const seen = violations(usesOf(new Map([...files, ...Object.entries(more)])));
  if (!seen.includes(expected)) fail(`The check does not see “${expected}”, which was planted.`);
}

const uses = usesOf(files);
if (uses.length < fewestUses) fail(`The check sees only ${uses.length} uses.`);
const found = violations(uses);
for (const violation of found) console.error(violation);
console.log(`${files.size} files of Rust, ${uses.length} uses, ${found.length} violations`);
if (found.length > 0) process.exitCode = 1;

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}
