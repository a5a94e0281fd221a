/** The tables of docs/architecture/host-agent.md say of back ends what their code says. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { diskKinds } from './disk/choose.ts';
import { monitors } from './vmm/index.ts';

const page = readFileSync(
  join(import.meta.dirname, '../../../docs/architecture/host-agent.md'),
  'utf8',
).split('\n');

type Rows = Record<string, object>;

/** Of the table whose first column is called `kind`: what each row says, by its name. */
function tableOf(kind: string): Rows {
  const start = page.findIndex((line) => line.startsWith(`| ${kind} |`));
  const end = page.findIndex((line, i) => i > start && !line.startsWith('|'));
  const [head = [], , ...rows] = page.slice(start, end).map(cellsOf);
  return Object.fromEntries(
    rows.map(([name = '', ...cells]) => [
      name,
      Object.fromEntries(cells.map((cell, i) => [head[i + 1], meaningOf(cell)])),
    ]),
  );
}

function cellsOf(line: string): string[] {
  const cells = line.split('|').slice(1, -1);
  return cells.map((cell) => cell.trim().replaceAll('`', ''));
}

function meaningOf(cell: string): string | boolean {
  return cell === 'yes' || (cell === 'no' ? false : cell);
}

const kinds: [string, Rows][] = [
  [
    'disk',
    Object.fromEntries(
      Object.entries(diskKinds).map(([name, { create }]) => [name, create('abcdef').capabilities]),
    ),
  ],
  [
    'monitor',
    Object.fromEntries(Object.entries(monitors).map(([name, { capabilities }]) => [name, capabilities])),
  ],
];

test.each(kinds)('the table of each kind of %s names all there are and what they can do', (kind, can) => {
  expect(tableOf(kind)).toEqual(can);
});
