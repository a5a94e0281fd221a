/** docs/COMPATIBILITY.md names all that the installed SDK of E2B can do: a newer one shows here what is new in it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Sandbox } from 'e2b';
import { beforeAll, expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');
let document: string;
let types: string;
beforeAll(async () => {
  document = await readFile(join(root, 'docs/COMPATIBILITY.md'), 'utf8');
  types = await readFile(join(root, 'node_modules/e2b/dist/index.d.ts'), 'utf8');
});

/** The body of the first declaration that begins so. */
function body(declaration: string): string {
  const start = types.indexOf(`\n${declaration} {\n`);
  if (start < 0) throw new Error(`The SDK declares no ${declaration}.`);
  return types.slice(start, types.indexOf('\n}', start));
}

/** Calls of its control plane, such as `GET /sandboxes/{id}`. */
function calls(): string[] {
  const found: string[] = [];
  let path = '';
  for (const line of body('interface paths').split('\n')) {
    path = /^ {2}"([^"]+)": \{/.exec(line)?.[1]?.replace(/\{(?!hash|build|alias)\w+\}/g, '{id}') ?? path;
    const method = /^ {4}(get|put|post|delete|patch): \{/.exec(line)?.[1];
    if (method) found.push(`${method.toUpperCase()} ${path}`);
  }
  return found;
}

function methods(name: string): string[] {
  const lines = body(`declare class ${name}`).matchAll(/^ {2}(?!private|protected|constructor)(\w+)[(<]/gm);
  return [...lines].map(([, method]) => method as string);
}

test('it names each call of the control plane', () => {
  const all = calls();
  expect(all.length).toBeGreaterThan(40);
  expect(all.filter((call) => !document.includes(`\`${call}\``))).toEqual([]);
});

test.each([
  ['commands', 'Commands'],
  ['files', 'Filesystem'],
  ['pty', 'Pty'],
])('it names each method of %s', (_, declared) => {
  const all = methods(declared);
  expect(all.length).toBeGreaterThan(4);
  expect(all.filter((method) => !new RegExp(`\`(\\w+\\.)?${method}\``).test(document))).toEqual([]);
});

test('it names each method of a sandbox', () => {
  const inner = ['constructor', 'resolveApiOpts', 'fileUrl'];
  const all = Object.getOwnPropertyNames(Sandbox.prototype).filter((name) => !inner.includes(name));
  expect(all.length).toBeGreaterThan(10);
  expect(all.filter((method) => !new RegExp(`\`(\\w+\\.)?${method}\``).test(document))).toEqual([]);
});

test('it names the version that is installed', async () => {
  const { version } = JSON.parse(await readFile(join(root, 'node_modules/e2b/package.json'), 'utf8'));
  expect(document).toContain(`\`e2b\` ${version}`);
});
