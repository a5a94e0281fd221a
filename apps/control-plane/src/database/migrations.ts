/** The schema's history. A migration that was released is never changed; a new one is added below it. */
import { type Kysely, sql } from 'kysely';
import { type Migration, Migrator } from 'kysely/migration';
import type { Tables } from './tables.ts';

const migrations: Record<string, Migration> = {
  '0001_sandboxes': {
    async up(db: Kysely<unknown>) {
      await sql`
        CREATE TABLE api_keys (
          id text PRIMARY KEY,
          name text NOT NULL,
          prefix text NOT NULL,
          hash bytea NOT NULL UNIQUE,
          created_at timestamptz(3) NOT NULL,
          last_used_at timestamptz(3)
        )`.execute(db);
      await sql`
        CREATE TABLE sandboxes (
          id text PRIMARY KEY,
          status text NOT NULL CHECK (status IN ('creating', 'running', 'pausing', 'paused', 'resuming',
            'snapshotting', 'forking', 'failed', 'destroying', 'destroyed')),
          reason text,
          template text NOT NULL,
          vcpus integer NOT NULL,
          memory_mb integer NOT NULL,
          disk_mb integer NOT NULL,
          timeout_sec integer NOT NULL,
          timeout_mode text NOT NULL CHECK (timeout_mode IN ('idle', 'fixed')),
          metadata jsonb NOT NULL,
          host_id text NOT NULL,
          host_ip text,
          generation integer NOT NULL,
          access_token text NOT NULL,
          created_at timestamptz(3) NOT NULL,
          started_at timestamptz(3),
          last_active_at timestamptz(3),
          expires_at timestamptz(3),
          ended_at timestamptz(3)
        )`.execute(db);
      await sql`CREATE INDEX sandboxes_newest ON sandboxes (created_at DESC, id DESC)`.execute(db);
      await sql`CREATE INDEX sandboxes_live ON sandboxes (status) WHERE status <> 'destroyed'`.execute(db);
      await sql`CREATE INDEX sandboxes_metadata ON sandboxes USING gin (metadata jsonb_path_ops)`.execute(db);
      await sql`
        CREATE TABLE sandbox_events (
          id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
          sandbox_id text NOT NULL REFERENCES sandboxes ON DELETE CASCADE,
          at timestamptz(3) NOT NULL,
          status text NOT NULL,
          detail text
        )`.execute(db);
      await sql`CREATE INDEX sandbox_events_of ON sandbox_events (sandbox_id, id)`.execute(db);
      await sql`
        CREATE TABLE idempotency_keys (
          api_key_id text NOT NULL,
          key text NOT NULL,
          request_hash bytea NOT NULL,
          sandbox_id text NOT NULL,
          answer jsonb,
          created_at timestamptz(3) NOT NULL,
          PRIMARY KEY (api_key_id, key)
        )`.execute(db);
      await sql`CREATE INDEX idempotency_keys_sandbox ON idempotency_keys (sandbox_id)`.execute(db);
      await sql`CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at)`.execute(db);
    },
  },
  '0002_pause_resume': {
    async up(db: Kysely<unknown>) {
      await sql`
        ALTER TABLE sandboxes
          ADD COLUMN on_timeout text NOT NULL DEFAULT 'destroy' CHECK (on_timeout IN ('destroy', 'pause')),
          ADD COLUMN auto_resume boolean NOT NULL DEFAULT false,
          ADD COLUMN next_access_token text`.execute(db);
    },
  },
  '0003_edge': {
    async up(db: Kysely<unknown>) {
      // 244 random bits of the server's strong source, for each row of its own.
      const token = sql`replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')`;
      await sql`
        ALTER TABLE sandboxes
          ADD COLUMN edge_token text NOT NULL DEFAULT ${token},
          ADD COLUMN traffic_token text DEFAULT ${token},
          ADD COLUMN mask_host text`.execute(db);
    },
  },
  '0004_pause_without_memory': {
    async up(db: Kysely<unknown>) {
      await sql`
        ALTER TABLE sandboxes
          ADD COLUMN pause_memory boolean NOT NULL DEFAULT true,
          ADD COLUMN paused_memory boolean NOT NULL DEFAULT true`.execute(db);
    },
  },
  '0005_no_kept_answers': {
    async up(db: Kysely<unknown>) {
      await sql`ALTER TABLE idempotency_keys ADD COLUMN answered boolean NOT NULL DEFAULT false`.execute(db);
      await sql`UPDATE idempotency_keys SET answered = answer IS NOT NULL`.execute(db);
      await sql`ALTER TABLE idempotency_keys DROP COLUMN answer`.execute(db);
    },
  },
};

/** Brings the schema up to date; two that start at once wait for each other. */
export async function migrate(db: Kysely<Tables>): Promise<void> {
  const migrator = new Migrator({ db, provider: { getMigrations: async () => migrations } });
  const { error } = await migrator.migrateToLatest();
  if (error) throw error;
}
