/** The pool alone, with guests that are only names and a clock that the test moves. */
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { SandboxDriver } from '../sandbox/index.ts';
import type { GuestRequest } from './kinds.ts';
import { PrewarmedPool, type PrewarmedPoolOptions } from './prewarmed-pool.ts';

const minuteMs = 60_000;
const usual: GuestRequest = { template: 'base', vcpus: 1, memory_mb: 512, disk_mb: 5120 };
const large: GuestRequest = { ...usual, memory_mb: 4096 };
const content = 'one';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

class World {
  /** Names of guests that are there. */
  readonly guests = new Set<string>();
  readonly made: GuestRequest[] = [];
  content = content;
  hasRoom: (request: GuestRequest) => boolean = () => true;
  hasTime = true;
  places = 1000;
  makesIn: (signal: AbortSignal) => Promise<void> = async () => {};
  failure: Error | undefined;
  #number = 0;

  pool({
    kept = 0,
    isFixed = false,
    ...options
  }: Partial<Omit<PrewarmedPoolOptions, 'kept'>> & { kept?: number; isFixed?: boolean } = {}) {
    const pool = new PrewarmedPool({
      kept: () => [{ request: usual, count: kept, isFixed }],
      most: 32,
      room: () => this.places,
      make: (request, signal) => this.#make(request, signal),
      isImpossible: () => this.failure?.message === 'never',
      mayGrow: () => this.hasTime,
      ...{ quietMs: 300, againMs: 10_000, now: Date.now, log: pino({ level: 'silent' }) },
      ...options,
    });
    pool.start();
    return pool;
  }

  async #make({ memory_mb, ...rest }: GuestRequest, signal: AbortSignal) {
    if (this.failure) throw this.failure;
    if (!this.hasRoom({ memory_mb, ...rest })) return undefined;
    const { content: made } = this;
    await this.makesIn(signal);
    const id = `${rest.template}-${memory_mb}-${++this.#number}`;
    this.made.push({ memory_mb, ...rest });
    this.guests.add(id);
    const destroy = async () => void this.guests.delete(id);
    return { driver: { id, record: { memory_mb }, destroy } as unknown as SandboxDriver, content: made };
  }
}

/** So many creates at once. @returns how many found a guest */
function burst(pool: PrewarmedPool, count: number, request = usual, of = content): number {
  using _ = pool.busy();
  let found = 0;
  for (let one = 0; one < count; one++) {
    pool.asked(request);
    if (pool.take(request, of)) found++;
  }
  return found;
}

const soon = () => vi.advanceTimersByTimeAsync(minuteMs / 2);

test('after a burst the next one of its size finds a guest for each create', async () => {
  const world = new World();
  const pool = world.pool({ kept: 2 });
  await soon();
  expect(world.guests.size).toBe(2);
  expect(burst(pool, 20)).toBe(2);
  await soon();
  expect(burst(pool, 20)).toBe(20);
  expect(pool.counts).toEqual({ hits: 22, misses: 18 });
  await soon();
  expect(pool.states()).toEqual([{ ...usual, ready: 20, wanted: 20, hits: 22, misses: 18 }]);
});

test('a pool that nobody asks anything of holds what is kept, and gives the rest back by and by', async () => {
  const world = new World();
  const pool = world.pool({ kept: 2 });
  burst(pool, 8);
  await soon();
  expect(world.guests.size).toBe(8);
  await vi.advanceTimersByTimeAsync(7 * minuteMs);
  expect(world.guests.size).toBeLessThan(8);
  await vi.advanceTimersByTimeAsync(10 * minuteMs);
  expect(world.guests.size).toBe(2);
  expect(vi.getTimerCount()).toBe(0);
});

test('a number that is fixed stays, whatever is asked for', async () => {
  const world = new World();
  const pool = world.pool({ kept: 3, isFixed: true });
  burst(pool, 8);
  await soon();
  expect(world.guests.size).toBe(3);
});

test('each kind that is asked for has guests of its own, and no more stand ready than may', async () => {
  const world = new World();
  const pool = world.pool({ most: 8 });
  burst(pool, 3, large);
  burst(pool, 20);
  await soon();
  expect(pool.states().map(({ memory_mb, ready }) => [memory_mb, ready])).toEqual([
    [4096, 3],
    [512, 5],
  ]);
  expect(burst(pool, 3, { ...large, template: 'other' })).toBe(0);
  expect(burst(pool, 3, large)).toBe(3);
});

test('guests go when there is less room for them, and come again with it', async () => {
  const world = new World();
  const pool = world.pool({ kept: 6 });
  await soon();
  expect(world.guests.size).toBe(6);
  world.places = 2;
  pool.look();
  await soon();
  expect(world.guests.size).toBe(2);
  world.places = 1000;
  await soon();
  expect(world.guests.size).toBe(6);
});

test('kinds that want more than may stand ready take turns once, and not again with each create', async () => {
  const world = new World();
  const pool = world.pool({ most: 5 });
  burst(pool, 8);
  burst(pool, 8, large);
  await soon();
  const { length } = world.made;
  for (let round = 0; round < 4; round++) {
    using _ = pool.busy();
    pool.asked(round % 2 === 0 ? large : usual);
    await vi.advanceTimersByTimeAsync(1000);
  }
  await soon();
  expect([world.made.length, world.guests.size]).toEqual([length, 5]);
});

test('of the kinds that are remembered the one that was not asked for longest is forgotten', async () => {
  const pool = new World().pool();
  for (let index = 0; index < 100; index++) {
    burst(pool, 1, { ...large, disk_mb: 1000 + index });
    await vi.advanceTimersByTimeAsync(1000);
  }
  const disks = pool.states().map(({ disk_mb }) => disk_mb);
  expect(disks.length).toBeLessThanOrEqual(64);
  const known = [usual.disk_mb, 1099, 1000].filter((disk) => disks.includes(disk));
  expect(known).toEqual([usual.disk_mb, 1099]);
});

test('kinds that are asked for all at once are forgotten as well', () => {
  const pool = new World().pool();
  const all = Array.from({ length: 200 }, (_, index) => ({ ...large, disk_mb: 1000 + index }));
  for (const request of all) pool.asked(request);
  for (const request of all) pool.take(request, content);
  expect(pool.counts).toEqual({ hits: 0, misses: 200 });
  // And the one that is kept.
  expect(pool.states()).toHaveLength(65);
});

test('none is made while a create is under way', async () => {
  const world = new World();
  const pool = world.pool({ kept: 2 });
  {
    using _ = pool.busy();
    await soon();
    expect(world.made).toEqual([]);
  }
  await vi.advanceTimersByTimeAsync(299);
  expect(world.made).toEqual([]);
  await soon();
  expect(world.made).toHaveLength(2);
});

test('without time for it only those that are kept are made', async () => {
  const world = new World();
  world.hasTime = false;
  const pool = world.pool({ kept: 2 });
  burst(pool, 8);
  await soon();
  expect(world.guests.size).toBe(2);
  world.hasTime = true;
  await soon();
  expect(world.guests.size).toBe(8);
});

test('a kind that there is no room for keeps none of the others away', async () => {
  const world = new World();
  world.hasRoom = ({ memory_mb }) => memory_mb < 1024;
  const pool = world.pool();
  burst(pool, 4);
  burst(pool, 4, large);
  await soon();
  expect(world.guests.size).toBe(4);
  expect(pool.states().map(({ ready }) => ready)).toEqual([4, 0]);
});

test('as many give way as it takes, those first that are wanted least', async () => {
  const world = new World();
  const pool = world.pool({ kept: 2 });
  burst(pool, 4);
  burst(pool, 2, large);
  await soon();
  expect(world.guests.size).toBe(6);
  // The places are: two that are kept, one round for the large, and the rest.
  expect(await pool.giveWay(600)).toBe(true);
  const left = () => pool.states().map(({ memory_mb, ready }) => [memory_mb, ready]);
  expect(left()).toEqual([
    [512, 2],
    [4096, 2],
  ]);
  expect(await pool.giveWay(5000)).toBe(true);
  expect(left()).toEqual([
    [512, 2],
    [4096, 0],
  ]);
  await pool.giveWay();
  expect(world.guests.size).toBe(0);
  expect(await pool.giveWay(1)).toBe(false);
});

test('the one that is being made gives way first, and none is made for a while', async () => {
  const world = new World();
  world.makesIn = (signal) =>
    new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  const pool = world.pool({ kept: 1 });
  await vi.advanceTimersByTimeAsync(1);
  expect(await pool.giveWay(1)).toBe(true);
  world.makesIn = async () => {};
  await vi.advanceTimersByTimeAsync(9000);
  expect(world.made).toEqual([]);
  await vi.advanceTimersByTimeAsync(2000);
  expect(world.guests.size).toBe(1);
});

test('one that is made all the same when it has to give way goes, too', async () => {
  const world = new World();
  const made = Promise.withResolvers<void>();
  world.makesIn = () => made.promise;
  const pool = world.pool({ kept: 1 });
  await vi.advanceTimersByTimeAsync(1);
  const gone = pool.giveWay(1);
  made.resolve();
  expect(await gone).toBe(true);
  expect([world.made.length, world.guests.size]).toEqual([1, 0]);
  expect(pool.states().map(({ ready }) => ready)).toEqual([0]);
});

test('a guest of what a template was before is given to nobody, and goes when that is told', async () => {
  const world = new World();
  const pool = world.pool({ kept: 2 });
  await soon();
  world.content = 'another';
  expect(burst(pool, 1, usual, 'another')).toBe(0);
  const before = [...world.guests];
  await pool.changed(usual.template);
  expect(world.guests.size).toBe(0);
  await soon();
  expect(world.guests.size).toBe(2);
  expect([...world.guests].some((id) => before.includes(id))).toBe(false);
  expect(burst(pool, 2, usual, 'another')).toBe(2);
});

test('a guest that cannot be is not tried again until it is asked for', async () => {
  const world = new World();
  const pool = world.pool();
  burst(pool, 4);
  world.failure = new Error('never');
  await soon();
  expect(pool.states().filter(({ wanted }) => wanted > 0)).toEqual([]);
  world.failure = undefined;
  await soon();
  expect(world.made).toEqual([]);
  burst(pool, 2);
  await soon();
  expect(world.guests.size).toBe(2);
});

test('one that ends by itself is made again after a while', async () => {
  const world = new World();
  const pool = world.pool({ kept: 1 });
  await soon();
  pool.lost([...world.guests][0] ?? '');
  expect(world.guests.size).toBe(0);
  await vi.advanceTimersByTimeAsync(9000);
  expect(world.guests.size).toBe(0);
  await vi.advanceTimersByTimeAsync(2000);
  expect(world.guests.size).toBe(1);
});

test('a pool that stops leaves none, and makes none', async () => {
  const world = new World();
  const pool = world.pool({ kept: 2 });
  burst(pool, 8);
  await soon();
  await pool.stop();
  expect(world.guests.size).toBe(0);
  await soon();
  expect(world.guests.size).toBe(0);
});

test('a pool that may hold none counts nothing', async () => {
  const pool = new World().pool({ most: 0 });
  burst(pool, 8);
  await soon();
  expect(pool.states()).toEqual([{ ...usual, ready: 0, wanted: 0, hits: 0, misses: 0 }]);
  expect(pool.counts).toEqual({ hits: 0, misses: 0 });
});
