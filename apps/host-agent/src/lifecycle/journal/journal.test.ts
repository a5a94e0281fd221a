import { execFileSync } from 'node:child_process';
import { mkdtempDisposable, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, test } from 'vitest';
import { Journal } from './journal.ts';

const spec = {
  ...{
    id: 'sb1',
    kind: 'sandbox' as const,
    generation: 1,
    template: 'base',
    vcpus: 1,
    memory_mb: 512,
    disk_mb: 1024,
  },
  ...{ base: 'b'.repeat(64), kernel: 'c'.repeat(64), initramfs: 'd'.repeat(64) },
};

async function open() {
  const dir = await mkdtempDisposable(join(tmpdir(), 'perch-journal-'));
  const file = join(dir.path, 'journal.db');
  return { file, dir, journal: new Journal(file), [Symbol.asyncDispose]: () => dir.remove() };
}

test('what was written is there after the process is gone', async () => {
  await using home = await open();
  const processes = [42, 43].map((pid) => ({ pid, startTime: 1234 }));
  home.journal.insert(spec);
  home.journal.setSlot('sb1', 7);
  home.journal.setProcesses('sb1', processes);
  home.journal.transition('sb1', 'running', { timings_ms: { boot: 12.5 } });
  home.journal.close();
  const again = new Journal(home.file);
  expect(again.list()).toMatchObject([
    {
      ...spec,
      status: 'running',
      slot: 7,
      processes,
      timings_ms: { boot: 12.5 },
    },
  ]);
  again.close();
});

test('processes that it has already are not written again', async () => {
  await using home = await open();
  const written = async () => (await stat(`${home.file}-wal`)).size;
  home.journal.insert(spec);
  home.journal.setProcesses('sb1', [{ pid: 42, startTime: 1234 }]);
  const before = await written();
  home.journal.setProcesses('sb1', [{ pid: 42, startTime: 1234 }]);
  expect(await written()).toBe(before);
  home.journal.setProcesses('sb1', [{ pid: 42, startTime: 1235 }]);
  expect(await written()).toBeGreaterThan(before);
  expect(home.journal.list()).toMatchObject([{ processes: [{ pid: 42, startTime: 1235 }] }]);
  home.journal.close();
});

test('a journal of an older version keeps its sandboxes', async () => {
  await using home = await open();
  home.journal.close();
  await rm(home.file);
  const old = new DatabaseSync(home.file);
  old.exec(`create table sandboxes (
    id text primary key, generation integer not null, template text not null,
    vcpus integer not null, memory_mb integer not null, disk_mb integer not null,
    status text not null, reason text, slot integer unique, pid integer, pid_start integer,
    changed_at text not null, timings_ms text not null default '{}'
  ) strict;
  insert into sandboxes values
    ('sb0', 1, 'base', 1, 512, 1024, 'running', null, 3, 42, 1234, 'now', '{}'),
    ('sb00', 1, 'base', 1, 512, 1024, 'failed', null, null, null, null, 'now', '{}');`);
  old.close();
  for (const open of [1, 2]) {
    const journal = new Journal(home.file);
    if (open === 1) journal.insert(spec);
    expect(journal.list()).toMatchObject([
      {
        ...{ id: 'sb0', kind: 'sandbox', status: 'running', slot: 3, identity: null, last_checkpoint: null },
        processes: [{ pid: 42, startTime: 1234 }],
      },
      { id: 'sb00', processes: [] },
      spec,
    ]);
    journal.close();
  }
});

test('a journal in which the last checkpoint had another name keeps it', async () => {
  await using home = await open();
  home.journal.insert(spec);
  home.journal.transition(spec.id, 'running', { last_checkpoint: 7 });
  home.journal.close();
  const old = new DatabaseSync(home.file);
  old.exec(`alter table sandboxes rename column last_checkpoint to snapshot;
    alter table sandboxes drop column processes;
    alter table sandboxes drop column env;
    alter table sandboxes drop column rebooted;
    alter table sandboxes add column pid integer;
    alter table sandboxes add column pid_start integer;
    pragma user_version = 3;`);
  old.close();
  const journal = new Journal(home.file);
  expect(journal.get(spec.id)?.last_checkpoint).toBe(7);
  journal.close();
});

test('a way that the state machine does not have is refused and changes nothing', async () => {
  await using home = await open();
  home.journal.insert(spec);
  home.journal.transition('sb1', 'destroying');
  expect(() => home.journal.transition('sb1', 'running')).toThrow(/cannot go from destroying to running/);
  expect(home.journal.get('sb1')?.status).toBe('destroying');
  home.journal.close();
});

test('two sandboxes never have one slot', async () => {
  await using home = await open();
  home.journal.insert(spec);
  home.journal.insert({ ...spec, id: 'sb2' });
  home.journal.setSlot('sb1', 7);
  expect(() => home.journal.setSlot('sb2', 7)).toThrow(/UNIQUE/);
  home.journal.close();
});

test('a second process is kept out, with the line that helps', async () => {
  await using home = await open();
  expect(() => new Journal(home.file)).toThrow(/perch down --keep/);
  home.journal.close();
});

test('a destroyed sandbox leaves nothing in the journal', async () => {
  await using home = await open();
  home.journal.insert(spec);
  home.journal.transition('sb1', 'destroying');
  home.journal.transition('sb1', 'destroyed');
  expect(home.journal.list()).toEqual([]);
  home.journal.close();
});

test.runIf(process.getuid?.() === 0)(
  'a full disk is told as such, and is no trouble once there is room',
  async () => {
    await using dir = await mkdtempDisposable(join(tmpdir(), 'perch-journal-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'perch-journal', dir.path]);
    using _mounted = { [Symbol.dispose]: () => execFileSync('umount', [dir.path]) };
    const journal = new Journal(join(dir.path, 'journal.db'));
    using _closed = { [Symbol.dispose]: () => journal.close() };
    journal.insert(spec);
    const others = join(dir.path, 'others');
    await writeFile(others, Buffer.alloc(2 ** 20)).catch(() => {});
    const fill = () => {
      for (let i = 0; i < 1000; i++) journal.insert({ ...spec, id: `sb${i + 2}` });
    };
    expect(fill).toThrow('disk is full');
    await rm(others);
    journal.transition(spec.id, 'running');
    expect(journal.get(spec.id)).toMatchObject({ status: 'running' });
  },
);
