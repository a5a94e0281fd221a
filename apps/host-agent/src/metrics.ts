import { eventLoopEveryMs } from '@perch/node-kit';
import type { HostInfo } from '@perch/protocol';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Lifecycle } from './lifecycle/index.ts';
import type { VmMonitor } from './vmm/index.ts';

/** The figures of `/metrics` of the host agent. */
export function createMetrics(
  lifecycle: Lifecycle,
  info: () => Promise<HostInfo>,
  monitor: Pick<VmMonitor, 'counted'> = {},
): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: eventLoopEveryMs });
  const registers = [registry];
  new Gauge({
    name: 'perch_host_sandboxes',
    help: 'Sandboxes on this host by status.',
    labelNames: ['status'],
    registers,
    collect() {
      this.reset();
      for (const { status } of lifecycle.list()) this.inc({ status });
    },
  });
  new Gauge({
    name: 'perch_host_free',
    help: 'Left for sandboxes.',
    labelNames: ['resource'],
    registers,
    async collect() {
      const { memory_mb, disk_mb, slots } = await info();
      this.set({ resource: 'memory_mb' }, memory_mb.free);
      this.set({ resource: 'disk_mb' }, disk_mb.free);
      this.set({ resource: 'slots' }, slots.total - slots.used);
    },
  });
  new Gauge({
    name: 'perch_host_sandboxes_without_room',
    help: "Guests that stand still until the host's disk has room for what they write.",
    registers,
    collect() {
      this.set(lifecycle.lackingRoom());
    },
  });
  new Gauge({
    name: 'perch_host_ready_guests',
    help: 'Guests that stand ready for a create, and guests that are to.',
    labelNames: ['state'],
    registers,
    collect() {
      const states = lifecycle.ready.list();
      this.set({ state: 'waiting' }, sum(states.map(({ ready }) => ready)));
      this.set({ state: 'wanted' }, sum(states.map(({ wanted }) => wanted)));
    },
  });
  new Counter({
    name: 'perch_host_ready_takes_total',
    help: 'Creates that a ready guest could serve, by whether one stood ready.',
    labelNames: ['outcome'],
    registers,
    collect() {
      const { hits, misses } = lifecycle.ready.counts;
      this.reset();
      this.inc({ outcome: 'hit' }, hits);
      this.inc({ outcome: 'miss' }, misses);
    },
  });
  if (monitor.counted) {
    new Counter({
      name: 'perch_host_vm_counts_total',
      help: 'What VM monitors and pagers have counted, of all sandboxes since the start.',
      labelNames: ['of', 'counter'],
      registers,
      collect() {
        this.reset();
        for (const { value, ...labels } of monitor.counted?.() ?? []) this.inc(labels, value);
      },
    });
  }
  const stages = new Histogram({
    name: 'perch_host_stage_seconds',
    help: 'Stages of the transitions of sandboxes.',
    labelNames: ['to', 'stage'],
    buckets: [0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16],
    registers,
  });
  const begun = new Set<string>();
  lifecycle.watch(({ id, status, timings_ms }) => {
    // A guest that runs on after a copy, or a pause that failed, has begun nothing.
    const begins = begun.delete(id) && status === 'running';
    if (status === 'creating' || status === 'resuming') begun.add(id);
    if (!begins) return;
    for (const [stage, ms] of Object.entries(timings_ms)) stages.observe({ to: status, stage }, ms / 1000);
  });
  const merges = new Histogram({
    name: 'perch_host_merge_seconds',
    help: 'Merges of memory and layers of paused sandboxes, and conversions of their layers.',
    buckets: [0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64],
    registers,
  });
  const merged = new Counter({
    name: 'perch_host_merged_bytes_total',
    help: 'Bytes that merges and conversions of paused sandboxes have written.',
    labelNames: ['of'],
    registers,
  });
  lifecycle.watchMerges(({ ms, memoryBytes, layerBytes }) => {
    merges.observe(ms / 1000);
    merged.inc({ of: 'memory' }, memoryBytes);
    merged.inc({ of: 'disk' }, layerBytes);
  });
  return registry;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}
