/** The arguments of every measure. */
import type { CreateSandbox } from '../packages/protocol/src/index.ts';
import type { PerchInstance } from '../tests/setup/perch-instance.ts';
import type { BareGuests } from './bare-guest.ts';
import type { BareMonitor } from './bare-monitor.ts';
import type { Measured, Target } from './figures.ts';

export interface Bench {
  instance: PerchInstance;
  /** A sandbox that does nothing else. */
  sandbox: string;
  bare: BareGuests;
  /** `--memory`, MiB, for a measure that would take another than `machine` has. */
  memoryMb: number | undefined;
  /** Most samples of a figure, or sandboxes: fewer than usual where each takes long. */
  atMost: number;
  signal: AbortSignal;
  /** Says what is being done now. */
  progress: (text: string) => void;
}

export type Measure = (bench: Bench) => Promise<Measured[]>;

/** A measure that needs no Perch. */
export type HostMeasure = (bench: Pick<Bench, 'atMost' | 'signal' | 'progress'>) => Promise<Measured[]>;

/**
 * All sandboxes of a run, and all bare guests. Their disks are small, so that the room of ten forks can be promised.
 * `--memory` sets their memory before anything is measured.
 */
export const machine: CreateSandbox = { memory_mb: 512, disk_mb: 1024, timeout_sec: 3600 };

/** Of a start until its first command, by the monitor that is its floor. Firecracker's is measured in the lab. */
export const startTargets: Record<BareMonitor['kind'], Partial<Record<Target, number>>> = {
  qemu: { p50: 250, p95: 400, ratio_p50: 2 },
  firecracker: { ratio_p50: 1.5 },
};
