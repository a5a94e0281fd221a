/** When checkpoints are merged, step by step: see testing.ts. */
import { PerchError } from '@perch/protocol';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { ExchangeNotDurable } from '../../snapshot/index.ts';
import type { SandboxDriver } from '../sandbox/driver.ts';
import { FakeMachine, host, id, memoryIn, request, seen } from '../testing.ts';
import { type MergeCheckpoint, Merges, type PreparedMerge } from './merges.ts';

const next = { generation: 2, access_token: 'b'.repeat(64) };
const other = `sb${'b'.repeat(18)}`;

/** A host on which every merge waits to be let go, and says what becomes of it. */
async function merging(options: Parameters<typeof host>[1] = {}) {
  const h = await host(new FakeMachine(), options);
  const log: string[] = [];
  const begun: { id: string; prepared: () => void; fails: (error: Error) => void }[] = [];
  const merge: MergeCheckpoint = async (record, checkpoint, signal) => {
    const { promise, resolve, reject } = Promise.withResolvers<PreparedMerge>();
    const letter = record.id.at(-1);
    log.push(`begin ${letter} ${checkpoint}`);
    signal.addEventListener('abort', () => {
      log.push(`give up ${letter}`);
      reject(signal.reason);
    });
    const prepared = () =>
      resolve({
        ...{ what: 'merged', merged: { memoryBytes: 1, layerBytes: 2 } },
        replace: async () => {
          log.push(`replace ${letter}`);
          h.machine.isFull = false;
          h.machine.layerFormat = 'qcow2';
          h.machine.memory = memoryIn(1);
        },
        [Symbol.asyncDispose]: async () => void log.push(`remove ${letter}`),
      });
    begun.push({ id: record.id, prepared, fails: reject });
    return promise;
  };
  h.machine.merge = merge;
  const running = async (sandbox: string) => {
    await h.lifecycle.create(sandbox, request);
  };
  return { h, log, begun, running, [Symbol.asyncDispose]: () => h[Symbol.asyncDispose]() };
}

const until = (check: () => unknown) => expect.poll(check);

test('the checkpoint of a sandbox that is paused is replaced, and that is reported', async () => {
  await using it = await merging();
  const reported = Promise.withResolvers<unknown>();
  it.h.lifecycle.watchMerges(reported.resolve);
  await it.running(id);
  await it.h.lifecycle.pause(id, 1);
  await until(() => it.log).toEqual(['begin a 1']);
  it.begun[0]?.prepared();
  expect(await reported.promise).toMatchObject({ memoryBytes: 1, layerBytes: 2, ms: expect.any(Number) });
  await until(() => it.log).toEqual(['begin a 1', 'replace a', 'remove a']);
  expect(it.h.lifecycle.get(id).status).toBe('paused');
});

test('a resume waits for no merge: it is given up, and begun again after the next pause', async () => {
  await using it = await merging();
  await it.running(id);
  await it.h.lifecycle.pause(id, 1);
  await until(() => it.log).toEqual(['begin a 1']);
  expect(await it.h.lifecycle.resume(id, next)).toMatchObject({ status: 'running' });
  expect(it.log).toEqual(['begin a 1', 'give up a']);
  await it.h.lifecycle.pause(id, 2);
  await until(() => it.log).toEqual(['begin a 1', 'give up a', 'begin a 2']);
});

test('what was made while the sandbox went on takes no place', async () => {
  await using it = await merging();
  await it.running(id);
  await it.h.lifecycle.pause(id, 1);
  await until(() => it.begun.length).toBe(1);
  const gate = Promise.withResolvers<void>();
  it.h.machine.bootGate = gate.promise;
  const resumed = it.h.lifecycle.resume(id, next);
  // Before the merge is told that the sandbox goes on.
  it.begun[0]?.prepared();
  await seen(it.h.lifecycle, id, 'resuming');
  gate.resolve();
  await resumed;
  await until(() => it.log).toContain('remove a');
  expect(it.log).not.toContain('replace a');
});

test('a merge does not wait for its turn behind a resume, and holds up no other', async () => {
  await using it = await merging();
  for (const sandbox of [id, other]) await it.running(sandbox);
  for (const sandbox of [id, other]) await it.h.lifecycle.pause(sandbox, 1);
  await until(() => it.begun.length).toBe(1);
  const gate = Promise.withResolvers<void>();
  it.h.machine.bootGate = gate.promise;
  const resumed = it.h.lifecycle.resume(id, next);
  it.begun[0]?.prepared();
  await until(() => it.log).toEqual(['begin a 1', 'give up a', 'remove a', 'begin b 1']);
  gate.resolve();
  await resumed;
  expect(it.log).not.toContain('replace a');
});

test('a fork of a paused sandbox waits for no merge, and the merge goes on', async () => {
  await using it = await merging();
  await it.running(id);
  await it.h.lifecycle.pause(id, 1);
  await until(() => it.begun.length).toBe(1);
  const children = [{ id: other, access_token: 'c'.repeat(64) }];
  const { results } = await it.h.lifecycle.fork(id, { generation: 1, children });
  expect(results).toMatchObject([{ sandbox: { status: 'running' } }]);
  it.begun[0]?.prepared();
  await until(() => it.log).toEqual(['begin a 1', 'replace a', 'remove a']);
});

test('a resume of a disk that may get no more layers waits for the merge that is under way', async () => {
  await using it = await merging();
  await it.running(id);
  await it.h.lifecycle.pause(id, 1);
  await until(() => it.log).toEqual(['begin a 1']);
  it.h.machine.isFull = true;
  it.h.machine.order.length = 0;
  const resumed = it.h.lifecycle.resume(id, next);
  await until(() => it.h.machine.order).toContain('open');
  expect(it.h.lifecycle.get(id).status).toBe('paused');
  it.begun[0]?.prepared();
  expect(await resumed).toMatchObject({ status: 'running' });
  expect(it.log.slice(0, 2)).toEqual(['begin a 1', 'replace a']);
  await until(() => it.log).toContain('remove a');
  expect(it.begun).toHaveLength(1);
  expect(it.log.filter((line) => line === 'replace a')).toHaveLength(1);
});

test.each([
  ['resume', 'of a disk that may get no more layers'],
  ['fork', 'of a disk that may get no more layers'],
  ['resume', 'of a memory in too many files'],
  ['fork', 'of a memory in too many files'],
  ['resume', 'where layers are those of another kind of disk'],
  ['fork', 'where layers are those of another kind of disk'],
])('a %s %s has them made one first', async (what, why) => {
  await using it = await merging({ mergeQuietMs: 600_000 });
  await it.running(id);
  await it.h.lifecycle.pause(id, 1);
  if (why.includes('no more')) it.h.machine.isFull = true;
  else if (why.includes('too many')) it.h.machine.memory = memoryIn(129);
  else it.h.machine.layerFormat = 'dm-snapshot';
  const children = [{ id: other, access_token: 'c'.repeat(64) }];
  const done =
    what === 'resume'
      ? it.h.lifecycle.resume(id, next)
      : it.h.lifecycle.fork(id, { generation: 1, children });
  await until(() => it.log).toEqual(['begin a 1']);
  it.begun[0]?.prepared();
  await done;
  expect(it.log).toEqual(['begin a 1', 'replace a', 'remove a']);
});

test('a resume of a memory in as many files as there may be waits for no merge', async () => {
  await using it = await merging({ mergeQuietMs: 600_000 });
  await it.running(id);
  await it.h.lifecycle.pause(id, 1);
  it.h.machine.memory = memoryIn(128);
  expect(await it.h.lifecycle.resume(id, next)).toMatchObject({ status: 'running' });
  expect(it.log).toEqual([]);
});

test('one whose layers cannot be merged stays paused, and says why', async () => {
  await using it = await merging({ mergeQuietMs: 600_000 });
  await it.running(id);
  await it.h.lifecycle.pause(id, 1);
  it.h.machine.isFull = true;
  const room = new PerchError('capacity_exhausted', 'no room', {
    resource: 'disk',
    requested: 2,
    available: 1,
  });
  for (const [error, told] of [
    [room, { code: 'capacity_exhausted', message: 'no room' }],
    [new Error('no tool'), { code: 'resume_failed', message: expect.stringContaining('no tool') }],
  ] as const) {
    it.begun.length = 0;
    const resumed = expect(it.h.lifecycle.resume(id, next)).rejects.toMatchObject(told);
    await until(() => it.begun.length).toBe(1);
    it.begun[0]?.fails(error);
    await resumed;
    expect(it.h.lifecycle.get(id)).toMatchObject({ status: 'paused', generation: 1 });
  }
});

test('one whose layers cannot be converted stays paused, and says why', async () => {
  await using it = await merging({ mergeQuietMs: 600_000 });
  await it.running(id);
  await it.h.lifecycle.pause(id, 1);
  it.h.machine.layerFormat = 'dm-snapshot';
  const resumed = expect(it.h.lifecycle.resume(id, next)).rejects.toMatchObject({
    ...{
      code: 'resume_failed',
      message: expect.stringContaining('have to be converted, and cannot be. no tool'),
    },
  });
  await until(() => it.begun.length).toBe(1);
  it.begun[0]?.fails(new Error('no tool'));
  await resumed;
  expect(it.h.lifecycle.get(id)).toMatchObject({ status: 'paused', generation: 1 });
});

test.each([0, 600_000])(
  'a destroy ends a merge that a resume waits for (quiet for %i ms)',
  async (mergeQuietMs) => {
    await using it = await merging({ mergeQuietMs });
    await it.running(id);
    it.h.machine.isFull = true;
    await it.h.lifecycle.pause(id, 1);
    if (mergeQuietMs === 0) await until(() => it.begun.length).toBe(1);
    it.h.machine.order.length = 0;
    const resumed = expect(it.h.lifecycle.resume(id, next)).rejects.toMatchObject({
      code: 'sandbox_not_running',
    });
    await until(() => it.h.machine.order.includes('open') && it.begun.length === 1).toBe(true);
    await it.h.lifecycle.destroy(id);
    await resumed;
    expect(it.log).toEqual(['begin a 1', 'give up a']);
  },
);

test('one checkpoint is merged at a time, and one that fails holds up no other', async () => {
  await using it = await merging();
  for (const sandbox of [id, other]) await it.running(sandbox);
  for (const sandbox of [id, other]) await it.h.lifecycle.pause(sandbox, 1);
  await until(() => it.log).toEqual(['begin a 1']);
  it.begun[0]?.fails(new Error('cannot be read'));
  await until(() => it.log).toEqual(['begin a 1', 'begin b 1']);
  it.begun[1]?.prepared();
  await until(() => it.log).toEqual(['begin a 1', 'begin b 1', 'replace b', 'remove b']);
  expect(await it.h.lifecycle.resume(id, next)).toMatchObject({ status: 'running' });
});

test.each([
  [
    new PerchError('capacity_exhausted', 'no', { resource: 'disk', requested: 2, available: 1 }),
    'no room on the disk to merge or convert a checkpoint',
  ],
  [new Error('no tool'), 'a checkpoint cannot be merged or converted, and stays as it was'],
  [
    new ExchangeNotDurable('not synced'),
    'a checkpoint was merged or converted, and may not outlive a power cut',
  ],
])('the log says of %s what became of the checkpoint', async (error, message) => {
  const lines: string[] = [];
  const log = pino({}, { write: (line: string) => void lines.push(line) });
  const record = { id, status: 'paused', generation: 1, last_checkpoint: 1 };
  const whilePaused = async (_: number, _checkpoint: number, work: () => Promise<void>) => work();
  const merges = new Merges({
    find: () => ({ record, whilePaused }) as unknown as SandboxDriver,
    merge: async () => ({
      ...{ what: 'merged', merged: { memoryBytes: 1, layerBytes: 1 } },
      replace: () => Promise.reject(error),
      [Symbol.asyncDispose]: async () => {},
    }),
    quietMs: 0,
    log,
  });
  merges.note({ id, status: 'paused' });
  await until(() => lines.length).toBe(1);
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({ sandbox: id, checkpoint: 1, msg: message });
  await merges.stop();
});

test.each(['merged', 'converted'] as const)('the log says of a checkpoint that it was %s', async (what) => {
  const lines: string[] = [];
  const log = pino({}, { write: (line: string) => void lines.push(line) });
  const record = { id, status: 'paused', generation: 1, last_checkpoint: 1 };
  const whilePaused = async (_: number, _checkpoint: number, work: () => Promise<void>) => {
    await work();
    return true;
  };
  const merges = new Merges({
    find: () => ({ record, whilePaused }) as unknown as SandboxDriver,
    merge: async () => ({
      ...{ what, merged: { memoryBytes: 1, layerBytes: 1 } },
      replace: async () => {},
      [Symbol.asyncDispose]: async () => {},
    }),
    ...{ quietMs: 0, log },
  });
  merges.note({ id, status: 'paused' });
  await until(() => lines.length).toBe(1);
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({ sandbox: id, msg: `a checkpoint was ${what}` });
  await merges.stop();
});

test('a destroy ends a merge, and leaves nothing to merge', async () => {
  await using it = await merging();
  for (const sandbox of [id, other]) await it.running(sandbox);
  for (const sandbox of [id, other]) await it.h.lifecycle.pause(sandbox, 1);
  await until(() => it.log).toEqual(['begin a 1']);
  await it.h.lifecycle.destroy(other);
  await it.h.lifecycle.destroy(id);
  expect(it.log).toEqual(['begin a 1', 'give up a']);
});

test('a host agent that is started again looks at what is paused', async () => {
  await using it = await merging();
  await it.running(id);
  await it.h.lifecycle.pause(id, 1);
  await until(() => it.log).toEqual(['begin a 1']);
  await it.h.restart();
  await until(() => it.log).toEqual(['begin a 1', 'give up a', 'begin a 1']);
});
