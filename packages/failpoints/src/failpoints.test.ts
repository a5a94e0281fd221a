import { on } from 'node:events';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtempDisposable, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect, test, vi } from 'vitest';
import { Failpoints, heldFile } from './index.ts';

const make = () => new Failpoints(['create.slot', 'pause.frozen', 'pause.killed', 'pause.committed']);

test('each name is in a list once', () => {
  expect(() => new Failpoints(['pause.frozen', 'pause.killed', 'pause.frozen'])).toThrow('pause.frozen');
});

test('a name that there is not is refused with all that there are', () => {
  for (const text of [
    '',
    'create',
    'create.nothing',
    'create.slot:0',
    'create.slot:x',
    'create.slot:',
    'create.slot held',
  ]) {
    expect(() => make().parse(text)).toThrow('pause.committed');
  }
  expect(make().parse('create.slot:3')).toEqual({ name: 'create.slot', count: 3, holds: false });
  expect(make().parse('create.slot hold')).toEqual({ name: 'create.slot', count: 1, holds: true });
});

test('a file arms its lines one after the other, each once, at any time', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-failpoint-'));
  const file = join(dir.path, 'failpoint');
  const end = vi.fn();
  const places = make();
  places.armFrom(file, end);
  places.reach('create.slot');
  writeFileSync(file, 'create.slot:2\npause.killed\n');
  places.reach('pause.killed');
  places.reach('create.slot');
  expect(await readFile(file, 'utf8')).toBe('create.slot:1\npause.killed\n');
  expect(end).not.toHaveBeenCalled();
  places.reach('create.slot');
  expect(end).toHaveBeenCalledTimes(1);
  places.reach('create.slot');
  places.reach('pause.killed');
  expect(end).toHaveBeenCalledTimes(2);
  expect(existsSync(file)).toBe(false);
});

/** Takes the armed line out as soon as somebody is held there: that is the thread of the test. */
const letGo = `
const { existsSync, readFileSync, rmSync } = require('node:fs');
const { parentPort, workerData: { file, held } } = require('node:worker_threads');
parentPort.postMessage('waits');
const look = setInterval(() => {
  const where = existsSync(held) ? readFileSync(held, 'utf8') : '';
  if (where === '') return;
  clearInterval(look);
  parentPort.postMessage(where);
  rmSync(file);
}, 1);
`;

test('a line that holds keeps the process at its place until somebody takes the line out', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-failpoint-'));
  const file = join(dir.path, 'failpoint');
  const held = heldFile(file);
  const end = vi.fn();
  const places = make();
  places.armFrom(file, end);
  writeFileSync(file, 'pause.frozen:2 hold\n');
  places.reach('pause.frozen');
  expect(await readFile(file, 'utf8')).toBe('pause.frozen:1 hold\n');
  await using worker = new Worker(letGo, { eval: true, workerData: { file, held } });
  const said = on(worker, 'message');
  expect((await said.next()).value).toEqual(['waits']);
  places.reach('pause.frozen');
  expect(existsSync(file)).toBe(false);
  expect(existsSync(held)).toBe(false);
  expect((await said.next()).value).toEqual(['pause.frozen:1 hold\n']);
  places.reach('pause.frozen');
  expect(end).not.toHaveBeenCalled();
});

test('nobody is held for ever', async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-failpoint-'));
  const file = join(dir.path, 'failpoint');
  const end = vi.fn();
  const places = make();
  places.armFrom(file, end, 10);
  writeFileSync(file, 'pause.frozen hold\npause.killed\n');
  places.reach('pause.frozen');
  expect(await readFile(file, 'utf8')).toBe('pause.killed\n');
  expect(existsSync(heldFile(file))).toBe(false);
  rmSync(file);
  expect(end).not.toHaveBeenCalled();
});
