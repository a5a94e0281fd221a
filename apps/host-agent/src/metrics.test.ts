import type { HostInfo, HostSandbox } from '@perch/protocol';
import { expect, test } from 'vitest';
import type { Lifecycle } from './lifecycle/index.ts';
import { createMetrics } from './metrics.ts';

test('what VM monitors have counted is told by what counted it', async () => {
  const lifecycle = {
    ...{ list: () => [], lackingRoom: () => 0, watch: () => {}, watchMerges: () => {} },
    ready: { list: () => [], counts: { hits: 0, misses: 0 } },
  };
  const room = { total: 0, free: 0 };
  const info = { memory_mb: room, disk_mb: room, slots: { total: 0, used: 0, ready: 0 } };
  let value = 3;
  const metrics = createMetrics(lifecycle as unknown as Lifecycle, async () => info as unknown as HostInfo, {
    counted: () => [{ of: 'block', counter: 'read_bytes', value: value++ }],
  });
  const line = (count: number) => `perch_host_vm_counts_total{of="block",counter="read_bytes"} ${count}`;
  expect(await metrics.metrics()).toContain(line(3));
  expect(await metrics.metrics()).toContain(line(4));
});

test('the stages of a start are counted once, and not again when the guest runs on after something else', async () => {
  let tell: (sandbox: HostSandbox) => void = () => {};
  const lifecycle = {
    list: () => [],
    lackingRoom: () => 0,
    ready: { list: () => [], counts: { hits: 0, misses: 0 } },
    watch: (listener: typeof tell) => {
      tell = listener;
    },
    watchMerges: () => {},
  } as unknown as Lifecycle;
  const room = { total: 0, free: 0 };
  const info = { memory_mb: room, disk_mb: room, slots: { total: 0, used: 0, ready: 0 } };
  const metrics = createMetrics(lifecycle, async () => info as unknown as HostInfo);
  const told = (status: HostSandbox['status'], timings_ms = {}) =>
    tell({ id: 'sb1', status, timings_ms } as unknown as HostSandbox);
  const counted = async () =>
    /perch_host_stage_seconds_count\{to="running",stage="total"\} (\d+)/.exec(await metrics.metrics())?.[1];
  told('creating');
  told('running', { total: 100 });
  told('pausing', { total: 100 });
  told('running', { total: 100 });
  told('snapshotting', { total: 100 });
  told('running', { freeze: 1, total: 10 });
  expect(await counted()).toBe('1');
  told('paused');
  told('resuming');
  told('running', { total: 50 });
  expect(await counted()).toBe('2');
});

test('ready guests of all kinds are counted together, and creates by whether one stood ready', async () => {
  const lifecycle = {
    list: () => [],
    lackingRoom: () => 0,
    ready: {
      list: () => [
        { ready: 2, wanted: 2 },
        { ready: 5, wanted: 20 },
      ],
      counts: { hits: 7, misses: 3 },
    },
    watch: () => {},
    watchMerges: () => {},
  } as unknown as Lifecycle;
  const room = { total: 0, free: 0 };
  const info = { memory_mb: room, disk_mb: room, slots: { total: 0, used: 0, ready: 0 } };
  const metrics = createMetrics(lifecycle, async () => info as unknown as HostInfo);
  await metrics.metrics();
  const lines = (await metrics.metrics()).split('\n');
  expect(lines).toEqual(
    expect.arrayContaining([
      'perch_host_ready_guests{state="waiting"} 7',
      'perch_host_ready_guests{state="wanted"} 22',
      'perch_host_ready_takes_total{outcome="hit"} 7',
      'perch_host_ready_takes_total{outcome="miss"} 3',
    ]),
  );
});
