/** The figures of a measure, and how they are summed up. */
import { quietShare } from './load.ts';

/** A limit that a figure is held against. Ratios are of the subject to its floor. */
export type Target = 'ratio_p50' | 'ratio_p99' | 'p50' | 'p95' | 'p99';

export interface Measured {
  name: string;
  unit: 'ms' | 'MB/s' | 'MB' | '%';
  samples: readonly number[];
  /** The least that the machine needs for the same, taken in turn with the samples. */
  floor?: readonly number[];
  /** The target: at most this much, or at least for MB/s. */
  targets?: Partial<Record<Target, number>>;
}

/** A row of the table and of `--json`. MB are 10^6 bytes. */
export interface Figure {
  name: string;
  unit: Measured['unit'];
  n: number;
  p50: number;
  p95: number;
  /** The value that 99 of 100 samples are no worse than: of a rate, the low end. */
  p99: number;
  floor_p50: number | null;
  floor_p99: number | null;
  ratio_p50: number | null;
  ratio_p99: number | null;
  targets: Partial<Record<Target, number>>;
  /** Whether all targets are met; null without any. */
  met: boolean | null;
  /** Share of all processors that others had while the measure ran, 0 to 1. */
  others: number;
  /** Whether the machine was quiet enough. */
  trusted: boolean;
}

/** @param others share of all processors that others had meanwhile */
export function figure({ name, unit, samples, floor, targets = {} }: Measured, others: number): Figure {
  const more = unit === 'MB/s';
  const worst = more ? 0.01 : 0.99;
  const p50 = quantile(samples, 0.5);
  const p99 = quantile(samples, worst);
  const floorP50 = floor ? quantile(floor, 0.5) : null;
  const floorP99 = floor ? quantile(floor, worst) : null;
  const values = {
    p50: round(p50),
    p95: round(quantile(samples, more ? 0.05 : 0.95)),
    p99: round(p99),
    floor_p50: floorP50 === null ? null : round(floorP50),
    floor_p99: floorP99 === null ? null : round(floorP99),
    ratio_p50: floorP50 === null ? null : round(p50 / floorP50),
    ratio_p99: floorP99 === null ? null : round(p99 / floorP99),
  };
  const checks = (Object.keys(targets) as Target[]).map((target) => {
    const [value, limit] = [values[target] ?? Number.NaN, targets[target] ?? Number.NaN];
    return more ? value >= limit : value <= limit;
  });
  const met = checks.length === 0 ? null : checks.every(Boolean);
  const disturbed = { others: Number(others.toFixed(3)), trusted: others <= quietShare };
  return { name, unit, n: samples.length, ...values, targets, met, ...disturbed };
}

/** Nearest rank: always a value that was measured. */
export function quantile(samples: readonly number[], part: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  const value = sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)];
  if (value === undefined) throw new Error('There are no samples.');
  return value;
}

/** Three digits that count. */
export function round(value: number): number {
  return Number(value.toPrecision(value >= 100 ? 4 : 3));
}
