/**
 * The promises and beginnings of this host, in SQLite. It is written before the side effect that it
 * announces, with synchronous=FULL, so that after any crash it names at least what exists.
 */
import { DatabaseSync } from 'node:sqlite';
import type { ProcessRef } from '../../linux/index.ts';
import { assertCanGo, type HostState } from './state-machine.ts';

export interface SandboxSpec {
  id: string;
  /**
   * Guests that only this host knows: `boot`, a guest that is booted to become a boot snapshot; `ready`, one that
   * stands still until a create takes it over.
   */
  kind: 'sandbox' | 'boot' | 'ready';
  generation: number;
  template: string;
  vcpus: number;
  memory_mb: number;
  disk_mb: number;
  /** Content id of the base image below its disk. */
  base: string;
  /** Content ids of the kernel and the initramfs that its guest runs. */
  kernel: string;
  initramfs: string;
}

export interface SandboxRecord extends SandboxSpec {
  status: HostState;
  reason: string | null;
  /** Names its directory and cgroup: its id, or that of the ready guest that it took over. */
  vm: string;
  /** Set before anything is made in the slot, cleared once the slot was given back. */
  slot: number | null;
  /** Of its VM, as soon as it runs; none before and after. */
  processes: readonly ProcessRef[];
  /** The identity that its guest agent confirmed; of a paused sandbox its snapshot has it. */
  identity: HeldIdentity | null;
  /** Checkpoint that its life went on from, or that was committed since; null when there is none. */
  last_checkpoint: number | null;
  /** Checkpoints that were begun: the number of the last. */
  captures: number;
  /**
   * Checkpoint from whose disk its guest was booted though it has memory, which is not that of the guest; null when
   * there is none.
   */
  rebooted: number | null;
  changed_at: string;
  timings_ms: Record<string, number>;
}

export interface HeldIdentity {
  /** Opens the guest agent. Never in a log or an error. */
  accessToken: string;
  /** Number of identities that this guest's memory has seen: the next must be higher. */
  number: number;
  /** Its environment, for when its memory is not there to keep it. A secret as the token is. */
  env?: Readonly<Record<string, string>>;
}

export interface TransitionDetail {
  /** Of the life that begins, or is gone back to. */
  generation?: number;
  /** Checkpoint that is the last from now on. */
  last_checkpoint?: number;
  /** Checkpoint that is begun. */
  captures?: number;
  /** As in the record. */
  rebooted?: number | null;
  /** The identity that its guest agent has confirmed. */
  identity?: HeldIdentity;
  /** Why, for `failed`. */
  reason?: string;
  /** Milliseconds of each stage. */
  timings_ms?: Record<string, number>;
}

type Row = Record<string, string | number | null>;

/**
 * Versions of the schema, each made from the one before; `pragma user_version` is how many a file has. What a
 * sandbox of an older version lacks is empty: it can be used and destroyed, and a pause of it is refused.
 */
const versions = [
  `create table if not exists sandboxes (
     id text primary key, generation integer not null, template text not null,
     vcpus integer not null, memory_mb integer not null, disk_mb integer not null,
     status text not null, reason text, slot integer unique, pid integer, pid_start integer,
     changed_at text not null, timings_ms text not null default '{}'
   ) strict;
   create table if not exists transitions (
     number integer primary key autoincrement, id text not null, generation integer not null,
     from_status text, to_status text not null, reason text, at text not null
   ) strict;
   create index if not exists transitions_of_sandbox on transitions (id);
   create table if not exists settings (name text primary key, value text not null) strict;`,
  `alter table sandboxes add column kind text not null default 'sandbox';
   alter table sandboxes add column base text not null default '';
   alter table sandboxes add column kernel text not null default '';
   alter table sandboxes add column initramfs text not null default '';
   alter table sandboxes add column access_token text;
   alter table sandboxes add column identity_number integer;
   alter table sandboxes add column snapshot integer;`,
  `alter table sandboxes add column captures integer not null default 0;
   update sandboxes set captures = max(generation, coalesce(snapshot, 0));
   alter table sandboxes add column vm text not null default '';
   update sandboxes set vm = id;`,
  `alter table sandboxes rename column snapshot to last_checkpoint;
   update sandboxes set kind = 'boot' where kind = 'template';`,
  `alter table sandboxes add column processes text not null default '[]';
   update sandboxes set processes = json_array(json_object('pid', pid, 'startTime', pid_start)) where pid is not null;
   alter table sandboxes drop column pid;
   alter table sandboxes drop column pid_start;`,
  `alter table sandboxes add column env text;
   alter table sandboxes add column rebooted integer;`,
];

export class Journal {
  readonly #db: DatabaseSync;

  /**
   * @param file absolute path; the process that has it open keeps every other out.
   * @throws Error when another process has it open.
   */
  constructor(file: string) {
    this.#db = new DatabaseSync(file, { timeout: 1000 });
    try {
      this.#db.exec('pragma locking_mode = exclusive; pragma journal_mode = wal; pragma synchronous = full;');
      this.#upgrade();
    } catch (cause) {
      this.#db.close();
      throw new Error(`Another perch-host works on ${file}. Stop it first: perch down --keep`, { cause });
    }
  }

  insert(spec: SandboxSpec): SandboxRecord {
    this.#atomically(() => {
      this.#db
        .prepare(
          `insert into sandboxes
             (id, vm, kind, generation, template, vcpus, memory_mb, disk_mb, base, kernel, initramfs, status,
             changed_at)
           values (:id, :id, :kind, :generation, :template, :vcpus, :memory_mb, :disk_mb, :base, :kernel,
             :initramfs, 'creating', :now)`,
        )
        .run({ ...spec, now: now() });
      this.#note(spec.id, spec.generation, null, 'creating', null);
    });
    return this.#expect(spec.id);
  }

  /** Makes a ready guest, with all that it holds, the sandbox `id` that is being created. */
  takeOver(
    ready: string,
    id: string,
    { generation, template }: Pick<SandboxSpec, 'generation' | 'template'>,
  ) {
    this.#atomically(() => {
      this.#db
        .prepare(
          `update sandboxes set id = ?, kind = 'sandbox', generation = ?, template = ?, status = 'creating',
             changed_at = ?
           where id = ? and kind = 'ready' and status = 'running'`,
        )
        .run(id, generation, template, now(), ready);
      this.#db.prepare('delete from transitions where id = ?').run(ready);
      this.#note(id, generation, null, 'creating', null);
    });
    return this.#expect(id);
  }

  /** Moves a sandbox on. The journal refuses a way that the state machine does not have. */
  transition(id: string, to: HostState, detail: TransitionDetail = {}): void {
    const from = this.#expect(id);
    assertCanGo(id, from.status, to);
    this.#atomically(() => {
      const generation = detail.generation ?? from.generation;
      const identity = detail.identity ?? from.identity;
      this.#note(id, generation, from.status, to, detail.reason ?? null);
      if (to === 'destroyed') {
        this.#db.prepare('delete from sandboxes where id = ?').run(id);
        this.#db.prepare('delete from transitions where id = ?').run(id);
        return;
      }
      this.#db
        .prepare(
          `update sandboxes
           set status = ?, generation = ?, last_checkpoint = ?, captures = ?, rebooted = ?, access_token = ?,
             identity_number = ?, env = ?, reason = ?, changed_at = ?, timings_ms = ?
           where id = ?`,
        )
        .run(
          to,
          generation,
          detail.last_checkpoint ?? from.last_checkpoint,
          detail.captures ?? from.captures,
          detail.rebooted === undefined ? from.rebooted : detail.rebooted,
          identity?.accessToken ?? null,
          identity?.number ?? null,
          identity?.env ? JSON.stringify(identity.env) : null,
          detail.reason ?? from.reason,
          now(),
          JSON.stringify(detail.timings_ms ?? from.timings_ms),
          id,
        );
    });
  }

  setSlot(id: string, slot: number | null): void {
    this.#db.prepare('update sandboxes set slot = ? where id = ?').run(slot, id);
  }

  /** Waits for the disk only where they differ from what it has: a start adopts hundreds that do not. */
  setProcesses(id: string, processes: readonly ProcessRef[]): void {
    this.#db
      .prepare('update sandboxes set processes = ?1 where id = ?2 and processes <> ?1')
      .run(JSON.stringify(processes), id);
  }

  /** Nothing of its life is left: no process, and no guest that believes anything. */
  setEnded(id: string): void {
    this.#db
      .prepare(
        `update sandboxes set processes = '[]', access_token = null, identity_number = null, env = null
         where id = ?`,
      )
      .run(id);
  }

  /** Content ids of what its guest was booted from. */
  setBooted(id: string, { kernel, initramfs }: Pick<SandboxSpec, 'kernel' | 'initramfs'>): void {
    this.#db
      .prepare('update sandboxes set kernel = ?, initramfs = ? where id = ?')
      .run(kernel, initramfs, id);
  }

  get(id: string): SandboxRecord | undefined {
    const row = this.#db.prepare('select * from sandboxes where id = ?').get(id) as Row | undefined;
    return row && toRecord(row);
  }

  list(): SandboxRecord[] {
    const rows = this.#db.prepare('select * from sandboxes order by id').all() as Row[];
    return rows.map(toRecord);
  }

  setting(name: string): string | undefined {
    const row = this.#db.prepare('select value from settings where name = ?').get(name) as Row | undefined;
    return row?.value as string | undefined;
  }

  setSetting(name: string, value: string): void {
    this.#db.prepare('insert or replace into settings (name, value) values (?, ?)').run(name, value);
  }

  close(): void {
    this.#db.close();
  }

  #upgrade(): void {
    const { user_version } = this.#db.prepare('pragma user_version').get() as { user_version: number };
    for (const [i, statements] of versions.entries()) {
      if (i < user_version) continue;
      this.#atomically(() => this.#db.exec(`${statements} pragma user_version = ${i + 1};`));
    }
  }

  #note(id: string, generation: number, from: string | null, to: string, reason: string | null) {
    this.#db
      .prepare(
        'insert into transitions (id, generation, from_status, to_status, reason, at) values (?, ?, ?, ?, ?, ?)',
      )
      .run(id, generation, from, to, reason, now());
  }

  #expect(id: string): SandboxRecord {
    const record = this.get(id);
    if (!record) throw new Error(`The journal has no sandbox ${id}.`);
    return record;
  }

  #atomically(work: () => void) {
    this.#db.exec('begin immediate');
    try {
      work();
      this.#db.exec('commit');
    } catch (error) {
      // After some errors, as on a full disk, SQLite has rolled back by itself.
      if (this.#db.isTransaction) this.#db.exec('rollback');
      throw error;
    }
  }
}

function toRecord(row: Row): SandboxRecord {
  const { processes, access_token, identity_number, env, timings_ms, ...rest } = row;
  return {
    ...(rest as unknown as SandboxRecord),
    processes: JSON.parse(processes as string) as ProcessRef[],
    identity:
      access_token === null
        ? null
        : {
            ...{ accessToken: access_token as string, number: identity_number as number },
            ...(env === null ? {} : { env: JSON.parse(env as string) as Record<string, string> }),
          },
    timings_ms: JSON.parse(timings_ms as string) as Record<string, number>,
  };
}

function now(): string {
  return new Date().toISOString();
}
