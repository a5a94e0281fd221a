/** Sandboxes as they were: with a name, to create others from, and as the history of one. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Perch } from '../packages/sdk/src/index.ts';
import { footprint, footprintOf } from './setup/machine.ts';
import { PerchInstance } from './setup/perch-instance.ts';
import { newSandbox, sh } from './setup/sandbox.ts';
import { slowness } from './setup/slowness.ts';

let instance: PerchInstance;
let perch: Perch;
const small = { memory_mb: 256, disk_mb: 1024, timeout_sec: 1800 };

beforeAll(async () => {
  instance = await PerchInstance.start({ network: 87, env: { PERCH_HISTORY: '3' } });
  ({ perch } = instance);
});

afterAll(async () => {
  await instance?.[Symbol.asyncDispose]();
});

const names = async () => (await perch.snapshots.list({ type: 'snapshot' })).items.map(({ name }) => name);

describe('a snapshot with a name', () => {
  test('is what others start from, memory included, also when its sandbox and itself are gone', async () => {
    const source = await perch.sandboxes.create(small);
    await sh(
      perch,
      source.id,
      'echo on disk > /home/user/x; echo in memory > /dev/shm/y; setsid sleep 100000 >/dev/null 2>&1 </dev/null &',
    );
    const made = await perch.snapshots.create({ sandbox_id: source.id, name: 'with-sleep' });
    expect(made).toMatchObject({ type: 'snapshot', template: 'base', memory_mb: 256, sandbox_id: source.id });
    expect(made.timings_ms.frozen).toBeLessThan(made.timings_ms.total ?? 0);
    expect(await sh(perch, source.id, 'cat /dev/shm/y')).toBe('in memory\n');
    await perch.sandboxes.delete(source.id);

    await using first = await newSandbox(perch, {
      template: 'with-sleep',
      memory_mb: 256,
      disk_mb: 1024,
      env: { A: 'b' },
    });
    const holds = 'cat /home/user/x /dev/shm/y; pgrep -x sleep | wc -l; echo $A';
    expect(await sh(perch, first.id, holds)).toBe('on disk\nin memory\n1\nb\n');
    await perch.snapshots.delete('with-sleep');
    expect(await names()).toEqual([]);
    await perch.sandboxes.pause(first.id);
    await perch.sandboxes.resume(first.id);
    expect(await sh(perch, first.id, holds)).toBe('on disk\nin memory\n1\nb\n');
    await expect(perch.sandboxes.create({ ...small, template: 'with-sleep' })).rejects.toMatchObject({
      code: 'template_not_found',
    });
    await expect
      .poll(() => footprint(instance), { timeout: 30_000 * slowness })
      .toEqual(footprintOf(first.id));
  });

  test('of a paused sandbox leaves it paused; of another state takes the place of the first when asked', async () => {
    await using sandbox = await newSandbox(perch, small);
    const { id } = sandbox;
    await sh(perch, id, 'echo first > /home/user/x');
    await perch.sandboxes.pause(id);
    await perch.snapshots.create({ sandbox_id: id, name: 'kept' });
    expect((await perch.sandboxes.get(id)).status).toBe('paused');
    await perch.sandboxes.resume(id);
    await sh(perch, id, 'echo second > /home/user/x');
    await expect(perch.snapshots.create({ sandbox_id: id, name: 'kept' })).rejects.toMatchObject({
      code: 'snapshot_exists',
    });
    const said = async () => {
      await using made = await newSandbox(perch, { template: 'kept', memory_mb: 256, disk_mb: 1024 });
      return await sh(perch, made.id, 'cat /home/user/x');
    };
    expect(await said()).toBe('first\n');
    await perch.snapshots.create({ sandbox_id: id, name: 'kept' }, { overwrite: true });
    expect(await said()).toBe('second\n');
    await perch.snapshots.delete('kept');
  });

  test('is still there when Perch is started again', async () => {
    await using sandbox = await newSandbox(perch, small);
    await sh(perch, sandbox.id, 'echo kept > /home/user/x');
    const { name } = await perch.snapshots.create({ sandbox_id: sandbox.id });
    await instance.stop();
    await instance.up();
    expect(await names()).toEqual([name]);
    await using made = await newSandbox(perch, { template: name, memory_mb: 256, disk_mb: 1024 });
    expect(await sh(perch, made.id, 'cat /home/user/x')).toBe('kept\n');
    await perch.snapshots.delete(name);
  });

  test('is of a machine, which what starts from it has', async () => {
    await using sandbox = await newSandbox(perch, small);
    await perch.snapshots.create({ sandbox_id: sandbox.id, name: 'machine' });
    const made = await perch.sandboxes.create({ template: 'machine' });
    expect(made).toMatchObject({ vcpus: 1, memory_mb: 256, disk_mb: 1024 });
    await perch.sandboxes.delete(made.id);
    await expect(perch.sandboxes.create({ template: 'machine', memory_mb: 512 })).rejects.toMatchObject({
      code: 'shape_mismatch',
      details: { memory_mb: 256 },
    });
    await expect(
      perch.snapshots.create({ sandbox_id: sandbox.id, name: 'base' }, { overwrite: true }),
    ).rejects.toMatchObject({
      code: 'snapshot_exists',
    });
    await expect(perch.snapshots.delete('base')).rejects.toMatchObject({ code: 'snapshot_in_use' });
    await perch.snapshots.delete('machine');
  });

  test('that is flattened stands alone, and is as before', async () => {
    await using sandbox = await newSandbox(perch, small);
    const { id } = sandbox;
    const data = 'head -c 20000000 /dev/urandom > /home/user/data; sha256sum /home/user/data; sync';
    const sum = (await sh(perch, id, data)).split(' ')[0];
    await perch.sandboxes.pause(id);
    await perch.sandboxes.resume(id);
    await sh(perch, id, 'echo later > /home/user/x');
    await perch.snapshots.create({ sandbox_id: id, name: 'flat' });
    const flat = await perch.snapshots.flatten('flat');
    expect(flat).toMatchObject({ standalone: true, disk_mb: 1024 });
    // Sparse: the image, what was written, and the memory.
    expect(flat.size_bytes).toBeLessThan(900 * 2 ** 20);
    expect(await perch.snapshots.flatten('flat')).toEqual(flat);
    await using made = await newSandbox(perch, { template: 'flat', memory_mb: 256, disk_mb: 1024 });
    const whole = 'cat /home/user/x; sha256sum /home/user/data; rm /home/user/x; sync; ls /home/user';
    expect(await sh(perch, made.id, whole)).toBe(`later\n${sum}  /home/user/data\ndata\n`);
    await perch.snapshots.delete('flat');
    await perch.sandboxes.pause(made.id);
    await perch.sandboxes.resume(made.id);
    expect(await sh(perch, made.id, 'sha256sum /home/user/data')).toBe(`${sum}  /home/user/data\n`);
    const { results } = await perch.sandboxes.fork(made.id);
    const child = results[0] && 'sandbox' in results[0] ? results[0].sandbox.id : '';
    expect(await sh(perch, child, 'sha256sum /home/user/data')).toBe(`${sum}  /home/user/data\n`);
    await perch.sandboxes.delete(child);
    await expect
      .poll(() => footprint(instance), { timeout: 30_000 * slowness })
      .toEqual(footprintOf(id, made.id));
  });

  test('that is converted is for another kind of disk, and is as before where that goes on from it', async () => {
    await using sandbox = await newSandbox(perch, small);
    const { id } = sandbox;
    await sh(perch, id, 'head -c 20000000 /dev/urandom > /home/user/data; sync');
    const whole = 'cat /home/user/x; sha256sum /home/user/data';
    const lower = await perch.snapshots.create({ sandbox_id: id, name: 'lower' });
    await sh(perch, id, 'echo later > /home/user/x && sudo rm -r /usr/include && sync');
    const { disk_format: own } = await perch.snapshots.create({ sandbox_id: id, name: 'moved' });
    expect(lower.disk_format).toBe(own);
    const to = own === 'qcow2' ? 'dm-snapshot' : 'qcow2';
    await instance.run('snapshot', 'convert', 'moved', '--to', to);
    const moved = await perch.snapshots.get('moved');
    expect(moved).toMatchObject({ disk_format: to, standalone: false });
    expect(await perch.snapshots.convert('moved', { to })).toEqual(moved);
    await using made = await newSandbox(perch, { template: 'moved', memory_mb: 256, disk_mb: 1024 });
    const expected = await sh(perch, id, whole);
    expect(await sh(perch, made.id, `sudo sh -c 'echo 3 > /proc/sys/vm/drop_caches'; ${whole}`)).toBe(
      expected,
    );
    expect((await perch.snapshots.get('moved')).disk_format).toBe(own);
    await perch.sandboxes.pause(made.id);
    await perch.sandboxes.resume(made.id);
    expect(await sh(perch, made.id, `${whole}; test -e /usr/include || echo gone`)).toBe(`${expected}gone\n`);
    for (const name of ['lower', 'moved']) await perch.snapshots.delete(name);
  });

  test('by the command line', async () => {
    await using sandbox = await newSandbox(perch, small);
    expect(await instance.run('snapshot', 'create', sandbox.id, '--name', 'by-hand')).toBe('by-hand\n');
    const [line = ''] = (await instance.run('snapshot', 'ls', '--type', 'snapshot', '--json'))
      .trim()
      .split('\n');
    expect(JSON.parse(line)).toMatchObject({ name: 'by-hand', sandbox_id: sandbox.id });
    expect(await instance.run('snapshot', 'ls')).toMatch(/^by-hand +snapshot +1 vCPU, 256 MiB +1024 MiB/m);
    const id = (await instance.run('create', '--template', 'by-hand')).trim();
    const forked = (await instance.run('fork', id, '--count', '2')).trim().split('\n');
    expect(forked).toHaveLength(2);
    const history = await instance.run('history', id);
    expect(history).toMatch(/^0 +- +start/m);
    expect(history).toMatch(
      /^The sandbox occupies [\d.]+ MiB of its own, and shares [\d.]+ MiB with others\.$/m,
    );
    for (const one of [id, ...forked]) await instance.run('rm', one);
    expect(await instance.run('snapshot', 'rm', 'by-hand')).toBe('by-hand\n');
  });
});

describe('the history of a sandbox', () => {
  test('has each pause and snapshot, of which the newest stay, and any of them can be gone on from', async () => {
    await using sandbox = await newSandbox(perch, small);
    const { id } = sandbox;
    const checkpoints = async () =>
      (await perch.sandboxes.history(id)).items.map(({ checkpoint, parent, kind }) => [
        checkpoint,
        parent,
        kind,
      ]);
    expect(await checkpoints()).toEqual([[0, null, 'start']]);
    await sh(perch, id, 'echo one > /home/user/x; echo one > /dev/shm/y');
    await perch.sandboxes.pause(id);
    await perch.sandboxes.resume(id);
    await sh(perch, id, 'echo two > /home/user/x; echo two > /dev/shm/y');
    await perch.snapshots.create({ sandbox_id: id, name: 'two' });
    expect(await checkpoints()).toEqual([
      [0, null, 'start'],
      [1, 0, 'pause'],
      [2, 1, 'snapshot'],
    ]);
    await sh(perch, id, 'echo three > /home/user/x; echo three > /dev/shm/y');
    await perch.sandboxes.pause(id);
    expect(await checkpoints()).toEqual([
      [1, null, 'pause'],
      [2, 1, 'snapshot'],
      [3, 2, 'pause'],
    ]);
    const holds = 'cat /home/user/x /dev/shm/y';
    const { results } = await perch.sandboxes.fork(id, { checkpoint: 1 });
    const child = results[0] && 'sandbox' in results[0] ? results[0].sandbox.id : '';
    expect(await sh(perch, child, holds)).toBe('one\none\n');
    await perch.sandboxes.delete(child);

    await expect(perch.sandboxes.resume(id, { checkpoint: 0 })).rejects.toMatchObject({
      code: 'checkpoint_not_found',
    });
    expect((await perch.sandboxes.get(id)).status).toBe('paused');
    await perch.sandboxes.resume(id, { checkpoint: 2 });
    expect(await sh(perch, id, holds)).toBe('two\ntwo\n');
    await perch.sandboxes.pause(id);
    expect(await checkpoints()).toEqual([
      [2, null, 'snapshot'],
      [3, 2, 'pause'],
      [4, 2, 'pause'],
    ]);
    await perch.sandboxes.resume(id);
    expect(await sh(perch, id, holds)).toBe('two\ntwo\n');
    await perch.snapshots.delete('two');
  });
});
