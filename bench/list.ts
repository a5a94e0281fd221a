/**
 * A list of many sandboxes by REST, against the same rows straight from the database. The sandboxes are rows alone:
 * a list asks nobody else, and no machine holds so many.
 */
import type { Database } from '../apps/control-plane/src/database/index.ts';
import { newSandboxId } from '../packages/protocol/src/index.ts';
import { databaseOf } from './access.ts';
import type { Measure } from './bench.ts';
import { inTurn, timed } from './in-turn.ts';

const count = 1000;
const turns = { n: 40, warmUp: 10 };

export const list: Measure = async ({ instance, sandbox, signal, progress }) => {
  progress(`a list of ${count} sandboxes, against the rows straight from the database`);
  const database = databaseOf(instance);
  try {
    const ids = await addRows(database, sandbox);
    const { samples, floor } = await inTurn(
      {
        samples: () => timed(() => overRest(instance.perch.sandboxes.all())),
        floor: () => timed(() => rows(database)),
      },
      { ...turns, signal },
    );
    await database.deleteFrom('sandboxes').where('id', 'in', ids).execute();
    return [{ name: `a list of ${count} sandboxes`, unit: 'ms', samples, floor, targets: { p50: 30 } }];
  } finally {
    await database.destroy();
  }
};

async function overRest(all: AsyncIterable<unknown>): Promise<void> {
  let seen = 0;
  for await (const _ of all) seen++;
  if (seen <= count) throw new Error(`The list has ${seen} sandboxes, not more than ${count}.`);
}

function rows(database: Database): Promise<unknown> {
  const newest = database.selectFrom('sandboxes').selectAll().where('status', '<>', 'destroyed');
  return newest.orderBy('created_at', 'desc').orderBy('id', 'desc').limit(count).execute();
}

/** Paused ones, like `sandbox`. @returns their ids */
async function addRows(database: Database, sandbox: string): Promise<string[]> {
  const of = database.selectFrom('sandboxes').selectAll().where('id', '=', sandbox);
  const like = await of.executeTakeFirstOrThrow();
  const made = Array.from({ length: count }, (_, i) => ({
    ...like,
    ...{ id: newSandboxId(), status: 'paused' as const, host_ip: null },
    metadata: JSON.stringify({ number: String(i) }),
    created_at: new Date(like.created_at.getTime() + i),
  }));
  // A statement has 65,535 values at most.
  for (let at = 0; at < count; at += 250) {
    await database
      .insertInto('sandboxes')
      .values(made.slice(at, at + 250))
      .execute();
  }
  return made.map(({ id }) => id);
}
