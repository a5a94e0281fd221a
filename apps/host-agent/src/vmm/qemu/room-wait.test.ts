import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { RoomWait, standsStill } from './room-wait.ts';

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

/** A machine whose disk is full until `hasRoom`. */
class Machine {
  status = 'running';
  hasRoom = false;
  answers = true;
  readonly log: string[] = [];
  readonly wait = new RoomWait({
    status: async () => {
      if (!this.answers) throw new Error('no answer');
      return this.status;
    },
    go: async () => {
      this.log.push('go');
      this.status = 'running';
      if (!this.hasRoom) this.fails();
    },
    retryMs: [1, 10],
  });

  constructor() {
    this.wait.watch((lacks) => this.log.push(lacks ? 'lacks' : 'has'));
  }

  fails(): void {
    this.status = standsStill;
    this.wait.begin();
  }
}

test('a machine is let go until it can write, more slowly each time, and told of once', async () => {
  const it = new Machine();
  it.fails();
  it.fails();
  await vi.advanceTimersByTimeAsync(1);
  await vi.advanceTimersByTimeAsync(25);
  expect(it.log).toEqual(['lacks', 'go', 'go', 'go']);
  expect(it.wait.lacks).toBe(true);
  it.hasRoom = true;
  await vi.advanceTimersByTimeAsync(1000);
  expect(it.log).toEqual(['lacks', 'go', 'go', 'go', 'go', 'has']);
  expect(it.wait.lacks).toBe(false);
  it.fails();
  expect(it.log.at(-1)).toBe('lacks');
});

test('who waits for the want of room is told when it comes', async () => {
  const it = new Machine();
  const told: string[] = [];
  const given = new AbortController();
  void it.wait.untilLacks(new AbortController().signal).then(() => told.push('waited'));
  void it.wait.untilLacks(given.signal).then(() => told.push('given up'));
  await vi.advanceTimersByTimeAsync(1);
  given.abort();
  expect(told).toEqual([]);
  it.fails();
  await vi.advanceTimersByTimeAsync(0);
  expect(told).toEqual(['waited']);
  it.wait.stop();
});

test('who waits for the want of room of a machine that lacks it has it let go, and is told if it stands still again', async () => {
  const it = new Machine();
  const told = vi.fn();
  it.fails();
  await vi.advanceTimersByTimeAsync(100);
  it.log.length = 0;
  void it.wait.untilLacks(new AbortController().signal).then(told);
  await vi.advanceTimersByTimeAsync(0);
  expect(it.log).toEqual(['go']);
  expect(told).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(10);
  expect(told).toHaveBeenCalledOnce();
  it.wait.stop();
});

test('who waits for the want of room is told of none that has come to its end, though nobody had looked', async () => {
  const it = new Machine();
  const told = vi.fn();
  it.fails();
  await vi.advanceTimersByTimeAsync(100);
  it.hasRoom = true;
  void it.wait.untilLacks(new AbortController().signal).then(told);
  await vi.advanceTimersByTimeAsync(1000);
  expect(told).not.toHaveBeenCalled();
  expect(it.wait.lacks).toBe(false);
});

test('one that Perch has stopped is not let go, whenever that was', async () => {
  const it = new Machine();
  it.fails();
  it.wait.hold();
  await vi.advanceTimersByTimeAsync(1000);
  expect(it.log).toEqual(['lacks']);
  // It was stopped before it failed.
  it.fails();
  await vi.advanceTimersByTimeAsync(1000);
  expect(it.log).toEqual(['lacks']);
  it.hasRoom = true;
  it.wait.letGo();
  await vi.advanceTimersByTimeAsync(1000);
  expect(it.log).toEqual(['lacks', 'go', 'has']);
});

test('one that Perch stops while it is being asked is not let go', async () => {
  const { promise, resolve } = Promise.withResolvers<string>();
  const go = vi.fn(async () => {});
  const wait = new RoomWait({ status: () => promise, go, retryMs: [1] });
  wait.begin();
  await vi.advanceTimersByTimeAsync(1);
  wait.hold();
  resolve(standsStill);
  await vi.advanceTimersByTimeAsync(1000);
  expect(go).not.toHaveBeenCalled();
});

test('one that was let go by somebody else, or has been stopped for another reason, is left alone', async () => {
  const it = new Machine();
  it.fails();
  it.status = 'paused';
  await vi.advanceTimersByTimeAsync(1000);
  expect(it.log).toEqual(['lacks', 'has']);
});

test('one that does not answer is asked again, until it is over', async () => {
  const it = new Machine();
  it.answers = false;
  it.fails();
  await vi.advanceTimersByTimeAsync(100);
  it.answers = true;
  await vi.advanceTimersByTimeAsync(10);
  expect(it.log).toEqual(['lacks', 'go']);
  it.wait.stop();
  it.fails();
  await vi.advanceTimersByTimeAsync(1000);
  expect(it.log).toEqual(['lacks', 'go']);
  expect(vi.getTimerCount()).toBe(0);
});
