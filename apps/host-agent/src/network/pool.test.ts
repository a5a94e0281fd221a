import { fc, test as property } from '@fast-check/vitest';
import { isPerchError } from '@perch/protocol';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { SlotPool, type SlotPoolOptions } from './pool.ts';
import { quietLog } from './testing/log.ts';

/** A maker that notes what exists, and fails or waits as it is told. */
class FakeMaker {
  readonly existing = new Set<number>();
  readonly made: number[] = [];
  failMake = false;
  failRemove = false;
  step: () => Promise<void> = () => Promise.resolve();

  async make(number: number): Promise<void> {
    if (this.existing.has(number)) throw new Error(`slot ${number} exists already`);
    this.existing.add(number);
    this.made.push(number);
    await this.step();
    if (this.failMake) throw new Error('made to fail');
  }

  async remove(number: number): Promise<void> {
    await this.step();
    if (this.failRemove) throw new Error('removal made to fail');
    this.existing.delete(number);
  }
}

function setUp(options: Partial<SlotPoolOptions> = {}) {
  const maker = new FakeMaker();
  const clock = { now: 0 };
  const pool = new SlotPool({
    total: 10,
    size: 0,
    quarantineMs: 1000,
    maker,
    first: 1,
    now: () => clock.now,
    replaceAfterMs: 100,
    retryMs: [1000],
    log: quietLog,
    ...options,
  });
  return { maker, clock, pool };
}

const settle = async () => {
  for (let i = 0; i < 20; i++) await new Promise(setImmediate);
};

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => {
      throw new Error('expected a failure');
    },
    (error: unknown) => error,
  );
}

describe('the slot pool', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  test('makes slots ahead, and replaces those that are taken after a while', async () => {
    const { pool, maker } = setUp({ size: 3 });
    pool.start([], []);
    await settle();
    expect(pool.counts()).toEqual({ total: 10, used: 0, ready: 3 });
    expect(await pool.acquire()).toBe(1);
    await vi.advanceTimersByTimeAsync(99);
    await settle();
    expect(pool.counts()).toEqual({ total: 10, used: 1, ready: 2 });
    await vi.advanceTimersByTimeAsync(1);
    await settle();
    expect(pool.counts()).toEqual({ total: 10, used: 1, ready: 3 });
    expect(maker.made).toEqual([1, 2, 3, 4]);
  });

  test('replaces at once what was taken when none is left', async () => {
    const { pool } = setUp({ size: 2 });
    pool.start([], []);
    await settle();
    await pool.acquire();
    await pool.acquire();
    await settle();
    expect(pool.counts()).toEqual({ total: 10, used: 2, ready: 2 });
  });

  test('makes one slot ahead at a time', async () => {
    let running = 0;
    let most = 0;
    const { pool, maker } = setUp({ size: 5 });
    maker.step = async () => {
      most = Math.max(most, ++running);
      await new Promise(setImmediate);
      running--;
    };
    pool.start([], []);
    await settle();
    expect(pool.counts().ready).toBe(5);
    expect(most).toBe(1);
  });

  test('begins with the given number and goes around the end', async () => {
    const { pool } = setUp({ total: 3, first: 3 });
    pool.start([], []);
    expect([await pool.acquire(), await pool.acquire(), await pool.acquire()]).toEqual([3, 1, 2]);
  });

  test('leaves out the numbers that are in use', async () => {
    const { pool } = setUp({ total: 4 });
    pool.start([1, 3], []);
    expect([await pool.acquire(), await pool.acquire()]).toEqual([2, 4]);
    expect(isPerchError(await failureOf(pool.acquire()), 'capacity_exhausted')).toBe(true);
  });

  test('lets a number rest before it is used again, the longest rested first', async () => {
    const { pool, clock } = setUp({ total: 2 });
    pool.start([], []);
    await pool.acquire();
    await pool.acquire();
    await pool.release(2);
    clock.now = 500;
    await pool.release(1);
    clock.now = 999;
    expect(isPerchError(await failureOf(pool.acquire()), 'capacity_exhausted')).toBe(true);
    clock.now = 1000;
    expect(await pool.acquire()).toBe(2);
    clock.now = 1500;
    expect(await pool.acquire()).toBe(1);
  });

  test('prefers numbers that were never used to those that rested', async () => {
    const { pool, clock } = setUp({ total: 3 });
    pool.start([], []);
    await pool.release(await pool.acquire());
    clock.now = 5000;
    expect([await pool.acquire(), await pool.acquire(), await pool.acquire()]).toEqual([2, 3, 1]);
  });

  test('lets numbers rest that an earlier life left behind', async () => {
    const { pool, clock } = setUp({ total: 2 });
    pool.start([], [1, 2]);
    expect(isPerchError(await failureOf(pool.acquire()), 'capacity_exhausted')).toBe(true);
    clock.now = 1000;
    expect(await pool.acquire()).toBe(1);
  });

  test('removes a slot that is given back before the start, and lets it rest', async () => {
    const { pool, maker } = setUp({ total: 2 });
    maker.existing.add(1);
    await pool.release(1);
    expect(maker.existing.has(1)).toBe(false);
    pool.start([], []);
    expect(await pool.acquire()).toBe(2);
    expect(isPerchError(await failureOf(pool.acquire()), 'capacity_exhausted')).toBe(true);
  });

  test('does nothing when a slot is given back twice, not even when another has it by then', async () => {
    const { pool, clock, maker } = setUp({ total: 1 });
    pool.start([], []);
    await pool.acquire();
    await Promise.all([pool.release(1), pool.release(1)]);
    await pool.release(1);
    clock.now = 1000;
    expect(await pool.acquire()).toBe(1);
    expect(maker.existing.has(1)).toBe(true);
    expect(pool.counts().used).toBe(1);
  });

  test('does not take down a slot that is ready', async () => {
    const { pool, maker } = setUp({ size: 1 });
    pool.start([], []);
    await settle();
    await pool.release(1);
    expect(maker.existing.has(1)).toBe(true);
    expect(pool.counts().ready).toBe(1);
  });

  test('undoes and reports a slot that cannot be made', async () => {
    const { pool, maker, clock } = setUp({ total: 1 });
    pool.start([], []);
    maker.failMake = true;
    expect(String(await failureOf(pool.acquire()))).toContain('made to fail');
    expect(maker.existing.size).toBe(0);
    expect(pool.counts().used).toBe(0);
    maker.failMake = false;
    clock.now = 1000;
    expect(await pool.acquire()).toBe(1);
  });

  test('does not use a number whose remains are there, and goes on removing them', async () => {
    const { pool, maker, clock } = setUp({ total: 2 });
    pool.start([], []);
    maker.failMake = true;
    maker.failRemove = true;
    await failureOf(pool.acquire());
    maker.failMake = false;
    clock.now = 10_000;
    expect(await pool.acquire()).toBe(2);
    expect(isPerchError(await failureOf(pool.acquire()), 'capacity_exhausted')).toBe(true);
    await vi.advanceTimersByTimeAsync(1000);
    await settle();
    expect(maker.existing).toEqual(new Set([1, 2]));
    maker.failRemove = false;
    await vi.advanceTimersByTimeAsync(1000);
    await settle();
    expect(maker.existing).toEqual(new Set([2]));
    clock.now = 11_000;
    expect(await pool.acquire()).toBe(1);
  });

  test('keeps a slot used whose removal failed, so that it can be given back again', async () => {
    const { pool, maker } = setUp();
    pool.start([], []);
    await pool.acquire();
    maker.failRemove = true;
    expect(String(await failureOf(pool.release(1)))).toContain('removal made to fail');
    expect(pool.counts().used).toBe(1);
    maker.failRemove = false;
    await pool.release(1);
    expect(pool.counts().used).toBe(0);
    expect(maker.existing.size).toBe(0);
  });

  test('stops making ahead after a failure, until somebody asks again', async () => {
    const { pool, maker } = setUp({ size: 2 });
    maker.failMake = true;
    pool.start([], []);
    await settle();
    expect(maker.made).toEqual([1]);
    maker.failMake = false;
    expect(await pool.acquire()).toBe(2);
    await settle();
    expect(pool.counts().ready).toBe(2);
  });

  test('makes ahead again after a while when it failed, though nobody asks', async () => {
    const { pool, maker } = setUp({ size: 2 });
    maker.failMake = true;
    pool.start([], []);
    await settle();
    await vi.advanceTimersByTimeAsync(1000);
    await settle();
    expect(maker.made).toEqual([1, 2]);
    maker.failMake = false;
    await vi.advanceTimersByTimeAsync(1000);
    await settle();
    expect(pool.counts().ready).toBe(2);
  });

  test('waits ever longer while it goes on failing, and begins anew when it went well', async () => {
    const { pool, maker } = setUp({ size: 1, retryMs: [10, 100] });
    const failsAfter = async (ms: number) => {
      const before = maker.made.length;
      await vi.advanceTimersByTimeAsync(ms - 1);
      await settle();
      expect(maker.made.length).toBe(before);
      await vi.advanceTimersByTimeAsync(1);
      await settle();
      expect(maker.made.length).toBe(before + 1);
    };
    maker.failMake = true;
    pool.start([], []);
    await settle();
    for (const ms of [10, 100, 100]) await failsAfter(ms);
    maker.failMake = false;
    await pool.acquire();
    await settle();
    expect(pool.counts().ready).toBe(1);
    maker.failMake = true;
    await pool.acquire();
    await settle();
    await failsAfter(10);
  });

  test('is full again when numbers have rested, though nobody asks', async () => {
    const { pool, clock } = setUp({ total: 1, size: 1 });
    pool.start([], [1]);
    await settle();
    expect(pool.counts().ready).toBe(0);
    clock.now = 1000;
    await vi.advanceTimersByTimeAsync(1000);
    await settle();
    expect(pool.counts().ready).toBe(1);
  });

  test('gives the last number to a caller who comes while it is being made ahead', async () => {
    const { pool, maker } = setUp({ total: 1, size: 1 });
    maker.step = () => new Promise(setImmediate);
    pool.start([], []);
    expect(await pool.acquire()).toBe(1);
  });

  test('hands out nothing before its start and after its end', async () => {
    const { pool, maker } = setUp({ size: 1 });
    expect(String(await failureOf(pool.acquire()))).toContain('not been started');
    pool.start([], []);
    await pool.stop();
    expect(isPerchError(await failureOf(pool.acquire()), 'shutting_down')).toBe(true);
    expect(maker.made.length).toBeLessThanOrEqual(1);
  });

  test('waits at its end for what is being made, and takes it down again', async () => {
    const { pool, maker } = setUp();
    let goOn = () => {};
    maker.step = () => new Promise((resolve) => (goOn = resolve));
    pool.start([], []);
    const acquired = failureOf(pool.acquire());
    const stopped = pool.stop();
    maker.step = () => Promise.resolve();
    goOn();
    await stopped;
    expect(isPerchError(await acquired, 'shutting_down')).toBe(true);
    expect(maker.existing.size).toBe(0);
  });
});

type Action = { do: 'acquire' } | { do: 'release'; which: number } | { do: 'wait'; ms: number };

const actions: fc.Arbitrary<Action>[] = [
  fc.constant<Action>({ do: 'acquire' }),
  fc.nat().map<Action>((which) => ({ do: 'release', which })),
  fc.integer({ min: 0, max: 1500 }).map<Action>((ms) => ({ do: 'wait', ms })),
];

property.prop(
  [
    fc.scheduler(),
    fc.integer({ min: 1, max: 6 }),
    fc.integer({ min: 0, max: 3 }),
    fc.array(fc.oneof(...actions), { maxLength: 40 }),
    fc.infiniteStream(fc.integer({ min: 0, max: 9 })),
  ],
  { numRuns: 300 },
)(
  'whatever the order: no number has two holders, and each rests in between',
  async (s, total, size, todo, dice) => {
    const { pool, maker, clock } = setUp({ total, size });
    const held = new Set<number>();
    const restedSince = new Map<number, number>();
    const violations: string[] = [];
    const make = maker.make.bind(maker);
    maker.make = async (number) => {
      const since = restedSince.get(number);
      if (since !== undefined && clock.now - since < 1000) violations.push(`${number} did not rest`);
      if (held.has(number) || number < 1 || number > total) violations.push(`${number} was made while held`);
      await make(number);
    };
    const remove = maker.remove.bind(maker);
    maker.remove = async (number) => {
      await remove(number);
      restedSince.set(number, clock.now);
    };
    maker.step = async () => {
      await s.schedule(Promise.resolve());
      if (dice.next().value === 0) throw new Error('made to fail');
    };
    const acquire = async () => {
      const number = await pool.acquire().catch(() => undefined);
      if (number === undefined) return;
      if (held.has(number)) violations.push(`${number} was given twice`);
      if (!maker.existing.has(number)) violations.push(`${number} was given without being there`);
      held.add(number);
    };
    const release = async (number: number) => {
      await pool.release(number).then(
        () => void held.delete(number),
        () => {},
      );
    };

    pool.start([], []);
    const running: Promise<void>[] = [];
    for (const action of todo) {
      if (action.do === 'acquire') running.push(acquire());
      if (action.do === 'wait') clock.now += action.ms;
      const number = action.do === 'release' ? [...held][action.which % held.size] : undefined;
      if (number !== undefined) running.push(release(number));
      if (s.count() > 0) await s.waitOne();
    }
    await s.waitFor(Promise.all(running));
    await s.waitFor(pool.stop());
    expect(violations).toEqual([]);
    expect(pool.counts().used).toBe(held.size);
  },
);
