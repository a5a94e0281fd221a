/** Snapshots and forks, on a host that is played. */
import {
  type ForkResults,
  PerchError,
  type Sandbox,
  type Snapshot,
  type SnapshotList,
} from '@perch/protocol';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { eventually, TestPlane } from '../testing/index.ts';

let plane: TestPlane;
beforeAll(async () => {
  plane = await TestPlane.start();
});
afterAll(() => plane[Symbol.asyncDispose]());
beforeEach(() => {
  plane.host.onCopy = () => {};
  plane.host.failsChild = () => undefined;
});

const snapshot = (json: object, query = '') => plane.fetch(`/v1/snapshots${query}`, { json });
const fork = (id: string, json: object = {}) => plane.fetch(`/v1/sandboxes/${id}/fork`, { json });

async function told<T>(answer: Promise<Response>, status: number): Promise<T> {
  const response = await answer;
  const text = await response.text();
  if (response.status !== status) throw new Error(`${response.status}: ${text}`);
  return JSON.parse(text) as T;
}

const refused = (answer: Promise<Response>, status: number) =>
  told<{ error: { code: string; details: object } }>(answer, status).then(({ error }) => error);

/** Holds copies up until `go` is called. */
function gate() {
  const { promise, resolve } = Promise.withResolvers<void>();
  plane.host.onCopy = () => promise;
  return resolve;
}

async function children(id: string, json: object = {}): Promise<Sandbox[]> {
  const { results } = await told<ForkResults>(fork(id, json), 201);
  return results.flatMap((result) => ('sandbox' in result ? [result.sandbox] : []));
}

describe('a snapshot', () => {
  test('has a name of its own or one that is given, and is listed beside images', async () => {
    const { id } = await plane.create();
    const made = await told<Snapshot>(snapshot({ sandbox_id: id }), 201);
    expect(made).toMatchObject({ name: expect.stringMatching(/^snap-[a-z0-9]{8}$/), sandbox_id: id });
    await told(snapshot({ sandbox_id: id, name: 'one' }), 201);
    const list = async (query: string) =>
      (await told<{ items: Snapshot[] }>(plane.fetch(`/v1/snapshots${query}`), 200)).items.map(
        (one) => one.name,
      );
    expect(await list('?type=base')).toEqual(['base']);
    expect(await list('?type=snapshot')).toEqual(['one', made.name]);
    expect(await list('')).toHaveLength(3);
    const flat = await told<Snapshot>(plane.fetch('/v1/snapshots/one/flatten', { method: 'POST' }), 200);
    expect(flat.standalone).toBe(true);
    const convert = (to: string) => plane.fetch('/v1/snapshots/one/convert', { json: { to } });
    expect((await told<Snapshot>(convert('dm-snapshot'), 200)).disk_format).toBe('dm-snapshot');
    expect(await refused(convert('zfs'), 400)).toMatchObject({ code: 'validation_failed' });
    expect((await plane.fetch('/v1/snapshots/one', { method: 'DELETE' })).status).toBe(204);
    expect((await refused(plane.fetch('/v1/snapshots/one'), 404)).code).toBe('snapshot_not_found');
  });

  test('comes on one page of the list, which runs by name', async () => {
    const { id } = await plane.create();
    for (const name of ['page-c', 'page-a', 'page-b']) await told(snapshot({ sandbox_id: id, name }), 201);
    const all: string[] = [];
    let query = '?type=snapshot&limit=2';
    for (;;) {
      const page = await told<SnapshotList>(plane.fetch(`/v1/snapshots${query}`), 200);
      expect(page.items.length).toBeLessThanOrEqual(2);
      all.push(...page.items.map(({ name }) => name));
      if (page.next_cursor === null) break;
      query = `?type=snapshot&limit=2&cursor=${page.next_cursor}`;
    }
    expect(all).toEqual(all.toSorted());
    expect(all.filter((name) => name.startsWith('page-'))).toEqual(['page-a', 'page-b', 'page-c']);
    for (const wrong of ['limit=0', 'limit=1001', 'cursor=%00', 'colour=red'])
      expect((await refused(plane.fetch(`/v1/snapshots?${wrong}`), 400)).code).toBe('validation_failed');
  });

  test('takes the place of another only when that is asked for', async () => {
    const { id } = await plane.create();
    await told(snapshot({ sandbox_id: id, name: 'taken' }), 201);
    expect((await refused(snapshot({ sandbox_id: id, name: 'taken' }), 409)).code).toBe('snapshot_exists');
    await told(snapshot({ sandbox_id: id, name: 'taken' }, '?overwrite=true'), 201);
  });

  test.each(['Capital', '.dot', '-x', 'a/b', '..', '', 'a'.repeat(64), '<img src=x>'])(
    'cannot be named %j',
    async (name) => {
      const { id } = await plane.create();
      expect((await refused(snapshot({ sandbox_id: id, name }), 400)).code).toBe('validation_failed');
      const path = `/v1/snapshots/${encodeURIComponent(name)}`;
      if (name !== '' && name !== '..') await refused(plane.fetch(path), 400);
    },
  );

  test('is what sandboxes of its machine start from', async () => {
    const { id } = await plane.create({ vcpus: 2, memory_mb: 256, disk_mb: 2048 });
    await told(snapshot({ sandbox_id: id, name: 'shaped' }), 201);
    const made = await plane.create({ template: 'shaped', memory_mb: 256 });
    expect(made).toMatchObject({ template: 'shaped', vcpus: 2, memory_mb: 256, disk_mb: 2048 });
    const before = plane.host.created.length;
    expect(
      await refused(plane.fetch('/v1/sandboxes', { json: { template: 'shaped', vcpus: 1 } }), 400),
    ).toMatchObject({
      code: 'shape_mismatch',
      details: { template: 'shaped', vcpus: 2, memory_mb: 256, disk_mb: 2048 },
    });
    expect((await refused(plane.fetch('/v1/sandboxes', { json: { template: 'none' } }), 404)).code).toBe(
      'template_not_found',
    );
    expect(plane.host.created).toHaveLength(before);
  });
});

describe('while a running sandbox is copied', () => {
  test.each(['snapshotting', 'forking'] as const)('it is %s, and can be used', async (status) => {
    const { id } = await plane.create();
    const go = gate();
    const copied =
      status === 'forking'
        ? fork(id)
        : snapshot({ sandbox_id: id, name: `while-${status}` }, '?overwrite=true');
    await eventually(async () => (await plane.get(id)).status === status);
    const ran = await plane.fetch(`/v1/sandboxes/${id}/exec`, { json: { cmd: 'echo', args: ['hi'] } });
    expect(await ran.json()).toMatchObject({ stdout: 'hi\n' });
    go();
    expect((await copied).status).toBe(201);
    expect((await plane.get(id)).status).toBe('running');
  });

  test('a pause waits for the copy, and a destroy does not', async () => {
    const [one, two] = [await plane.create(), await plane.create()];
    const go = gate();
    const copies = [fork(one.id), fork(two.id)];
    await eventually(async () => (await plane.get(two.id)).status === 'forking');
    const paused = plane.transition(one.id, 'pause');
    expect((await plane.fetch(`/v1/sandboxes/${two.id}`, { method: 'DELETE' })).status).toBe(204);
    expect((await plane.get(one.id)).status).toBe('forking');
    go();
    expect((await paused).status).toBe(200);
    expect((await Promise.all(copies)).map(({ status }) => status)[0]).toBe(201);
    expect((await plane.get(one.id)).status).toBe('paused');
  });
});

describe('a fork', () => {
  test('gives children the settings of their source, and an id and a token each', async () => {
    const settings = { timeout_sec: 77, timeout_mode: 'fixed', on_timeout: 'pause', auto_resume: true };
    const { id } = await plane.create({ ...settings, metadata: { job: '1' }, env: { A: 'b' } });
    const made = await children(id, { count: 3 });
    expect(made).toHaveLength(3);
    for (const child of made) {
      expect(child).toMatchObject({
        ...settings,
        status: 'running',
        template: 'base',
        metadata: { job: '1' },
      });
      expect(await plane.get(child.id)).toEqual(child);
    }
    const tokens = plane.host.forked.at(-1)?.body.children.map((child) => child.access_token) ?? [];
    expect(new Set(tokens).size).toBe(3);
    expect(plane.host.forked.at(-1)?.body).toMatchObject({ generation: 1 });
  });

  test('of a paused sandbox leaves it paused, and of an older state names that', async () => {
    const { id } = await plane.paused();
    expect(await children(id, { checkpoint: 0 })).toHaveLength(1);
    expect(plane.host.forked.at(-1)?.body.checkpoint).toBe(0);
    expect((await plane.get(id)).status).toBe('paused');
  });

  test('has a result for each child, also for one that does not start', async () => {
    const { id } = await plane.create();
    let tried = 0;
    plane.host.failsChild = () => {
      tried++;
      const details = { resource: 'memory', requested: 2, available: 1 } as const;
      return tried > 1 ? new PerchError('capacity_exhausted', 'No room.', details) : undefined;
    };
    const { results } = await told<ForkResults>(fork(id, { count: 2 }), 201);
    expect(results).toMatchObject([
      { sandbox: { status: 'running' } },
      { error: { code: 'capacity_exhausted', remedy: expect.any(String) } },
    ]);
    const none = plane.host.forked.at(-1)?.body.children[1]?.id;
    expect((await plane.fetch(`/v1/sandboxes/${none}`)).status).toBe(404);
  });

  test('that the host cannot make leaves no child', async () => {
    const { id } = await plane.create();
    plane.host.onCopy = () => {
      throw new PerchError('fork_failed', 'No disk.', { id, reason: 'No disk.' });
    };
    expect((await refused(fork(id, { count: 2 }), 500)).code).toBe('fork_failed');
    for (const child of plane.host.forked.at(-1)?.body.children ?? []) {
      expect((await plane.fetch(`/v1/sandboxes/${child.id}`)).status).toBe(404);
    }
    expect((await plane.get(id)).status).toBe('running');
  });

  test('of what neither runs nor is paused is refused by its state', async () => {
    const { id } = await plane.create();
    plane.host.change(id, { status: 'failed', reason: 'it ended' });
    await eventually(async () => (await plane.get(id)).status === 'failed');
    expect((await refused(fork(id), 409)).code).toBe('sandbox_failed');
    expect((await refused(snapshot({ sandbox_id: id }), 409)).code).toBe('sandbox_failed');
    await plane.fetch(`/v1/sandboxes/${id}`, { method: 'DELETE' });
    expect(await refused(fork(id), 409)).toMatchObject({ details: { status: 'destroyed' } });
    expect((await refused(fork(`sb${'0'.repeat(18)}`), 404)).code).toBe('sandbox_not_found');
  });

  test.each([0, 101, 1.5, '3'])('of %j children is refused', async (count) => {
    const { id } = await plane.create();
    expect((await refused(fork(id, { count }), 400)).code).toBe('validation_failed');
  });

  test('whose client goes away leaves no child', async () => {
    const { id } = await plane.create();
    const go = gate();
    const client = new AbortController();
    const answer = plane.fetch(`/v1/sandboxes/${id}/fork`, { json: { count: 2 }, signal: client.signal });
    await eventually(async () => (await plane.get(id)).status === 'forking');
    client.abort();
    await expect(answer).rejects.toThrow();
    go();
    const asked = plane.host.forked.at(-1)?.body.children.map((child) => child.id) ?? [];
    await eventually(async () => {
      const seen = await Promise.all(asked.map((child) => plane.get(child)));
      return seen.every(({ status }) => status === 'destroyed' || status === undefined);
    });
    await eventually(() => asked.every((child) => !plane.host.sandboxes.has(child)));
  });
});

test('the history of a sandbox is what its host keeps; of a destroyed one nothing', async () => {
  const { id } = await plane.paused();
  const history = () => told<{ items: object[] }>(plane.fetch(`/v1/sandboxes/${id}/history`), 200);
  expect((await history()).items).toMatchObject([{ checkpoint: 0 }, { checkpoint: 1, parent: 0 }]);
  const resumed = await plane.fetch(`/v1/sandboxes/${id}/resume`, { json: { checkpoint: 0 } });
  expect(resumed.status).toBe(200);
  expect(plane.host.resumed.at(-1)?.body).toMatchObject({ generation: 2, checkpoint: 0 });
  await plane.fetch(`/v1/sandboxes/${id}`, { method: 'DELETE' });
  expect((await history()).items).toEqual([]);
});
