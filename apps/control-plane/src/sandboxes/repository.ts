import type { SandboxStatus } from '@perch/protocol';
import { type QueryCreator, type SqlBool, sql } from 'kysely';
import type { Database, NewSandboxRow, SandboxChanges, SandboxRow, Tables } from '../database/index.ts';
import type { Position } from './cursor.ts';

export interface ListFilter {
  statuses: readonly SandboxStatus[];
  metadata: Record<string, string>;
  after: Position | undefined;
  /** Rows of a page at most. */
  limit: number;
  /** By the time of its start, to which the position refers then; default: by its creation, the newest first. */
  byStart?: 'asc' | 'desc';
  /** Started then or later. */
  startedFrom?: Date | undefined;
  template?: string | undefined;
}

export interface SandboxPage {
  rows: SandboxRow[];
  /** The last of them, when others come after it. */
  last: SandboxRow | undefined;
}

/** Labels of a page, as JSON: with these it ends, the row at which they are reached included. Nothing else of a row is long. */
const pageBytes = 4 * 1024 * 1024;

export interface SandboxEvent {
  at: Date;
  status: SandboxStatus;
  detail: string | null;
}

export interface Activity {
  id: string;
  generation: number;
  lastActiveAt: Date;
  expiresAt: Date | null;
}

/** Sandboxes in the database. Every change of status names the statuses and the generation it
 * may come from. */
export class SandboxRepository {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Adds a row and its first event, and in the same step ties it to an idempotency key. One statement: one way there and back. */
  insert(row: NewSandboxRow, key?: { apiKeyId: string; key: string }): Promise<SandboxRow> {
    const added = this.#db
      .with('changed', (db) => db.insertInto('sandboxes').values(row).returningAll())
      .with('noted', (db) => noteEvent(db, row.created_at, null));
    if (!key) return added.selectFrom('changed').selectAll().executeTakeFirstOrThrow();
    return added
      .with('tied', (db) =>
        db
          .updateTable('idempotency_keys')
          .set({ sandbox_id: row.id })
          .where('api_key_id', '=', key.apiKeyId)
          .where('key', '=', key.key),
      )
      .selectFrom('changed')
      .selectAll()
      .executeTakeFirstOrThrow();
  }

  /** The row after the change, or undefined when it was in none of the expected statuses. */
  transition(
    id: string,
    generation: number,
    expected: readonly SandboxStatus[],
    changes: SandboxChanges & { status: SandboxStatus },
    detail: string | null,
  ): Promise<SandboxRow | undefined> {
    return this.#db
      .with('changed', (db) =>
        db
          .updateTable('sandboxes')
          .set(changes)
          .where('id', '=', id)
          .where('generation', '=', generation)
          .where('status', 'in', expected)
          .returningAll(),
      )
      .with('noted', (db) => noteEvent(db, new Date(), detail))
      .selectFrom('changed')
      .selectAll()
      .executeTakeFirst();
  }

  /** Takes a row away of which nothing was ever made. */
  async removeCreating(id: string): Promise<void> {
    await this.#db.deleteFrom('sandboxes').where('id', '=', id).where('status', '=', 'creating').execute();
  }

  find(id: string): Promise<SandboxRow | undefined> {
    return this.#db.selectFrom('sandboxes').selectAll().where('id', '=', id).executeTakeFirst();
  }

  live(): Promise<SandboxRow[]> {
    return this.#db.selectFrom('sandboxes').selectAll().where('status', '<>', 'destroyed').execute();
  }

  /** The database adds up the bytes, so that no more than a page of them comes here. */
  async list(filter: ListFilter): Promise<SandboxPage> {
    const { after, byStart, limit, startedFrom, template } = filter;
    const at = byStart ? sql<Date>`coalesce(started_at, created_at)` : sql<Date>`created_at`;
    const order = byStart ?? 'desc';
    let query = this.#db
      .selectFrom('sandboxes')
      .selectAll()
      .where('status', 'in', filter.statuses)
      .orderBy(at, order)
      .orderBy('id', order)
      .limit(limit + 1);
    if (Object.keys(filter.metadata).length > 0) {
      query = query.where(sql<SqlBool>`metadata @> ${JSON.stringify(filter.metadata)}::jsonb`);
    }
    if (startedFrom) query = query.where(at, '>=', startedFrom);
    if (template !== undefined) query = query.where('template', '=', template);
    if (after) {
      const beyond = sql.raw(order === 'asc' ? '>' : '<');
      query = query.where(sql<SqlBool>`(${at}, id) ${beyond} (${after.createdAt}, ${after.id})`);
    }
    const inOrder = sql`ORDER BY ${at} ${sql.raw(order)}, id ${sql.raw(order)}`;
    const bytesBefore = sql<number>`
      sum(octet_length(metadata::text)) OVER (${inOrder} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)`;
    const found = await this.#db
      .with('found', () => query)
      .with('measured', (db) =>
        db
          .selectFrom('found')
          .selectAll()
          .select([
            sql<number>`coalesce(${bytesBefore}, 0)`.as('bytes_before'),
            sql<number>`count(*) OVER ()::integer`.as('found'),
          ]),
      )
      .selectFrom('measured')
      .selectAll()
      .where('bytes_before', '<', pageBytes)
      .orderBy(at, order)
      .orderBy('id', order)
      .execute();
    const rows = found.slice(0, limit);
    return { rows, last: rows.length < (rows[0]?.found ?? 0) ? rows.at(-1) : undefined };
  }

  async setTimeout(
    id: string,
    generation: number,
    timeoutSec: number,
    expiresAt: Date,
  ): Promise<SandboxRow | undefined> {
    return this.#db
      .updateTable('sandboxes')
      .set({ timeout_sec: timeoutSec, expires_at: expiresAt })
      .where('id', '=', id)
      .where('generation', '=', generation)
      .where('status', '=', 'running')
      .returningAll()
      .executeTakeFirst();
  }

  /** Writes the activity of many sandboxes in one statement. */
  async saveActivity(activities: readonly Activity[]): Promise<void> {
    const rows = activities.map(
      (one) =>
        sql`(${one.id}, ${one.generation}::integer, ${one.lastActiveAt}::timestamptz, ${one.expiresAt}::timestamptz)`,
    );
    await sql`
      UPDATE sandboxes SET last_active_at = active.at, expires_at = active.ends
      FROM (VALUES ${sql.join(rows)}) AS active (id, generation, at, ends)
      WHERE sandboxes.id = active.id AND sandboxes.generation = active.generation AND status = 'running'
    `.execute(this.#db);
  }

  events(id: string): Promise<SandboxEvent[]> {
    return this.#db
      .selectFrom('sandbox_events')
      .select(['at', 'status', 'detail'])
      .where('sandbox_id', '=', id)
      .orderBy('id')
      .limit(1_000)
      .execute();
  }

  /** Forgets what was destroyed before `before`. */
  async purgeDestroyed(before: Date): Promise<void> {
    await this.#db
      .deleteFrom('sandboxes')
      .where('status', '=', 'destroyed')
      .where('ended_at', '<', before)
      .execute();
  }
}

/** The event of each row that was `changed` in the same statement. */
function noteEvent(
  db: QueryCreator<Tables & { changed: Tables['sandboxes'] }>,
  at: Date,
  detail: string | null,
) {
  return db
    .insertInto('sandbox_events')
    .columns(['sandbox_id', 'at', 'status', 'detail'])
    .expression((of) =>
      of
        .selectFrom('changed')
        .select([
          'id',
          sql<Date>`${at}::timestamptz`.as('at'),
          'status',
          sql<string | null>`${detail}::text`.as('detail'),
        ]),
    );
}
