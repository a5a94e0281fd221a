/** The guests that stand ready, as callers see them, and the numbers that callers set. */
import {
  type HostPinReady,
  isPerchError,
  PerchError,
  type ReadyGuests as ReadyGuestsView,
} from '@perch/protocol';
import type { Logger } from 'pino';
import type { ImageStore } from '../images/index.ts';
import type { SnapshotStore } from './checkpoints/index.ts';
import type { Pin } from './ready/index.ts';
import type { ReadyOptions, Source, StartPlanner } from './start/index.ts';

export interface ReadyGuestsDeps {
  images: Pick<ImageStore, 'find'>;
  snapshots: Pick<SnapshotStore, 'get'>;
  ready: Pick<ReadyOptions, 'most'>;
  log: Pick<Logger, 'warn'>;
}

export class ReadyGuests {
  readonly #deps: ReadyGuestsDeps;
  readonly #planner: Pick<StartPlanner, 'pins' | 'pool' | 'sources'>;

  constructor(deps: ReadyGuestsDeps, planner: Pick<StartPlanner, 'pins' | 'pool' | 'sources'>) {
    this.#deps = deps;
    this.#planner = planner;
  }

  /** Creates that found one, and that found none. */
  get counts(): { hits: number; misses: number } {
    return this.#planner.pool.counts;
  }

  /** By template and shape: what stands ready, is to, was asked for lately, or is pinned. */
  list(): ReadyGuestsView[] {
    const { pins, pool } = this.#planner;
    return pool
      .states()
      .map((state) => ({ ...state, pinned: pins.countOf(state) ?? null }))
      .filter(
        ({ pinned, ready, wanted, hits, misses }) => pinned !== null || ready + wanted + hits + misses > 0,
      )
      .sort((a, b) =>
        a.template < b.template ? -1 : a.template > b.template ? 1 : a.memory_mb - b.memory_mb,
      );
  }

  /**
   * Sets how many stand ready for creates of this template and shape, for good; the guests come when there is time and
   * memory. The same call again changes nothing.
   * @throws PerchError template_not_found, disk_too_small, shape_mismatch, too_many_ready; validation_failed for a
   *   template whose guests cannot stand ready
   */
  async pin({ count, ...request }: HostPinReady): Promise<ReadyGuestsView> {
    const { pins, pool, sources } = this.#planner;
    if (count !== null) assertMayStand(request.template, await sources.find(request));
    const next = pins.with(request, count);
    if (count !== null) assertFit(next, this.#deps.ready.most);
    pins.keep(next);
    pool.look();
    const state = this.list().find(({ template, vcpus, memory_mb, disk_mb }) =>
      isSame({ template, vcpus, memory_mb, disk_mb }, request),
    );
    return state ?? { ...request, ready: 0, wanted: 0, pinned: count, hits: 0, misses: 0 };
  }

  /** The template is of other content by now, or gone: so are the guests of it. Resolves once they have gone. */
  async changed(template: string): Promise<void> {
    await this.#follow(template);
    await this.#planner.pool.changed(template);
  }

  /** Brings pins together with what there is: a crash may have come after the change of a snapshot. */
  async recover(): Promise<void> {
    const templates = new Set(this.#planner.pins.all().map(({ request }) => request.template));
    for (const template of templates) await this.#follow(template);
  }

  /** A pin goes with its snapshot, and gets the shape of another that has its name. */
  async #follow(template: string): Promise<void> {
    const { pins } = this.#planner;
    if (this.#deps.images.find(template)) return;
    const isOf = ({ request }: Pin) => request.template === template;
    if (!pins.all().some(isOf)) return;
    const request = await this.#requestOf(template);
    if (request === 'unknown') return;
    // Others may have been pinned meanwhile, or this one given back.
    const pin = pins.all().find(isOf);
    if (!pin || (request && isSame(request, pin.request))) return;
    const others = pins.all().filter((one) => !isOf(one));
    pins.keep(request ? [...others, { request, count: pin.count }] : others);
  }

  /** Of a snapshot of this name: the only guests that there are of it. Undefined when there is none. */
  async #requestOf(template: string): Promise<Pin['request'] | undefined | 'unknown'> {
    try {
      const { vcpus, memory_mb, disk_mb } = await this.#deps.snapshots.get(template);
      return vcpus === null || memory_mb === null ? 'unknown' : { template, vcpus, memory_mb, disk_mb };
    } catch (error) {
      if (isPerchError(error, 'snapshot_not_found')) return undefined;
      // A snapshot that cannot be read keeps neither its pin from staying nor the host agent from starting.
      this.#deps.log.warn({ err: error, template }, 'the snapshot of pinned ready guests cannot be read');
      return 'unknown';
    }
  }
}

function isSame(a: Pin['request'], b: Pin['request']): boolean {
  return (['template', 'vcpus', 'memory_mb', 'disk_mb'] as const).every((field) => a[field] === b[field]);
}

/** A guest of a snapshot without memory boots when somebody asks for it, with what that one brings. */
function assertMayStand(template: string, { ready }: Pick<Source, 'ready'>): void {
  if (ready) return;
  const message = `is a snapshot without memory: its guests boot when they are asked for, and none stand ready`;
  throw new PerchError('validation_failed', `The template ${template} ${message}.`, {
    problems: [{ where: 'template', message }],
  });
}

/** Each pin takes a place at least, so that there is an end to them. */
function assertFit(pins: readonly Pin[], limit: number): void {
  const requested = pins.reduce((sum, { count }) => sum + Math.max(1, count), 0);
  if (requested <= limit) return;
  throw new PerchError(
    'too_many_ready',
    `The host keeps at most ${limit} ready guests, and with this there would be ${requested} pinned.`,
    { requested, limit },
  );
}
