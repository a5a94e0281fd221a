/** Sandboxes that go on from where another is, or was. */
import { type HostFork, type HostForked, PerchError } from '@perch/protocol';
import { failpoint } from '../../failpoints/index.ts';
import type { SnapshotStore, StateStore } from '../checkpoints/index.ts';
import { milliseconds, type SandboxRecord } from '../journal/index.ts';
import { exists, type Registry, sentence } from '../sandbox/index.ts';
import { type Source, sourceOf } from './sources.ts';
import type { StartPlanner } from './start-planner.ts';

export interface ForkDeps {
  snapshots: SnapshotStore;
  saved: StateStore;
}

export class Forks {
  readonly #deps: ForkDeps;
  readonly #registry: Registry;
  readonly #planner: StartPlanner;

  constructor(deps: ForkDeps, registry: Registry, planner: StartPlanner) {
    this.#deps = deps;
    this.#registry = registry;
    this.#planner = planner;
  }

  /**
   * Makes children that go on from where the source is, or was at a checkpoint of its history; resolves once each of
   * them runs or failed.
   * @throws PerchError as SandboxDriver.copy; sandbox_not_found, sandbox_exists. There is no child then.
   */
  async fork(id: string, { generation, checkpoint, children }: HostFork): Promise<HostForked> {
    const driver = this.#registry.expect(id);
    for (const child of children) {
      if (this.#registry.find(child.id)) throw exists(child.id);
    }
    const { saved, snapshots } = this.#deps;
    const start = performance.now();
    let timings: Readonly<Record<string, number>> = {};
    await using scratch = await snapshots.scratch(async (to) => {
      await driver.copy(generation, {
        ...{ as: 'forking', checkpoint },
        take: async (taken, stages) => {
          timings = stages;
          await saved.copy(id, taken, to);
        },
      });
    });
    failpoint('fork.copied');
    const copied = milliseconds(start);
    const { record } = driver;
    if (!record) throw new PerchError('sandbox_not_found', `There is no sandbox ${id} any more.`, { id });
    const source = sourceOf(record, scratch.directory, saved);
    const results = await Promise.all(children.map((child) => this.#child(child, record, source)));
    const { total: _, ...stages } = timings;
    return { results, timings_ms: { ...stages, copied, total: milliseconds(start) } };
  }

  async #child(
    { id, access_token }: HostFork['children'][number],
    { template }: SandboxRecord,
    source: Source,
  ): Promise<HostForked['results'][number]> {
    try {
      const driver = await this.#planner.admit(id, source, { generation: 1, template });
      if (!driver) throw exists(id);
      await driver.create(1, { from: source, secrets: { accessToken: access_token } });
      return { sandbox: this.#registry.get(id) };
    } catch (cause) {
      const error = cause instanceof PerchError ? cause : failedToStart(id, cause);
      return { id, error: error.toBody().error };
    }
  }
}

function failedToStart(id: string, cause: unknown): PerchError {
  const reason = sentence(cause);
  return new PerchError(
    'sandbox_failed',
    `Sandbox ${id} did not start. ${reason}`,
    { id, reason },
    { cause },
  );
}
