import type { LayerFormat } from '@perch/protocol';
import { expect, test } from 'vitest';
import { type Snapshot, SnapshotDirectory } from '../../snapshot/index.ts';
import { facts } from '../../snapshot/testing.ts';
import { Conversions } from '../checkpoints/index.ts';
import { FakeMachine } from '../testing.ts';
import { type SourceDeps, Sources } from './sources.ts';

const { vcpus, memory_mb, disk_mb } = facts.machine;
const request = { template: 'one', vcpus, memory_mb, disk_mb };
const { signal } = new AbortController();

/** A host with qcow2 and a snapshot, whose conversion begins when it is let go on. */
function setUp(format: LayerFormat) {
  const [begun, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const it = { format, begun: begun.promise, goOn: go.resolve, conversions: 0, linked: [] as string[] };
  const machine = new FakeMachine();
  const { linkStart } = machine.saved;
  machine.saved.linkStart = async (id, from) => {
    it.linked.push(`${id} ${it.format}`);
    return linkStart(id, from);
  };
  const snapshots: Pick<SourceDeps['snapshots'], 'use' | 'get' | 'change'> = {
    use: (_name, use) => {
      const rootfs = { format: it.format, base_content_id: 'a'.repeat(64), layers: [] };
      const directory = new SnapshotDirectory('/snapshots/one');
      return use({ directory, manifest: facts, rootfs } as unknown as Snapshot);
    },
    get: async () => ({ disk_format: it.format }) as never,
    change: async () => {
      it.conversions++;
      begun.resolve();
      await go.promise;
      it.format = 'qcow2';
    },
  };
  const deps = {
    ...{ disks: machine.disk, snapshots, saved: machine.saved, images: { find: () => undefined } },
  } as unknown as SourceDeps & ConstructorParameters<typeof Conversions>[0];
  const conversions = new Conversions(deps);
  return Object.assign(it, { sources: new Sources(deps, conversions, async () => {}) });
}

test('all who start from a snapshot of another kind of disk wait for one conversion', async () => {
  const it = setUp('dm-snapshot');
  const source = await it.sources.find(request);
  const begins = ['sb1', 'sb2'].map((id) => source.begin(id, signal));
  await it.begun;
  expect(it.linked).toEqual([]);
  it.goOn();
  await Promise.all(begins);
  expect([it.conversions, it.linked]).toEqual([1, ['sb1 qcow2', 'sb2 qcow2']]);
});

test('a snapshot whose layers became others after it was found is converted, too', async () => {
  const it = setUp('qcow2');
  const source = await it.sources.find(request);
  it.format = 'dm-snapshot';
  it.goOn();
  await source.begin('sb1', signal);
  expect([it.conversions, it.linked]).toEqual([1, ['sb1 qcow2']]);
});

test('one who is aborted does not wait for a conversion, which others do', async () => {
  const it = setUp('dm-snapshot');
  const source = await it.sources.find(request);
  const abort = new AbortController();
  const left = expect(source.begin('sb1', abort.signal)).rejects.toThrow('enough');
  const stays = source.begin('sb2', signal);
  await it.begun;
  abort.abort(new Error('enough'));
  await left;
  it.goOn();
  await stays;
  expect([it.conversions, it.linked]).toEqual([1, ['sb2 qcow2']]);
});
