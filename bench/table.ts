/** The figures for people. */
import { styleText } from 'node:util';
import type { Figure } from './figures.ts';

const heads = [
  '',
  'unit',
  'n',
  'p50',
  'p95',
  'p99',
  'floor p50',
  'floor p99',
  'ratio p50',
  'ratio p99',
  'target',
];

export function table(figures: readonly Figure[]): string {
  const rows = figures.map((figure) => [
    figure.name,
    figure.unit,
    String(figure.n),
    text(figure.p50),
    figure.n > 1 ? text(figure.p95) : '',
    figure.n > 1 ? text(figure.p99) : '',
    text(figure.floor_p50),
    text(figure.floor_p99),
    text(figure.ratio_p50),
    text(figure.ratio_p99),
    target(figure),
  ]);
  const widths = heads.map((head, i) => Math.max(head.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) =>
        i < 2 || i === cells.length - 1 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0),
      )
      .join('  ')
      .trimEnd();
  const painted = rows.map((row, i) => paint(line(row), figures[i]?.met ?? null));
  return [styleText('bold', line(heads)), ...painted].join('\n');
}

function text(value: number | null): string {
  return value === null ? '' : String(value);
}

function target({ unit, targets, met }: Figure): string {
  const sign = unit === 'MB/s' ? '≥' : '≤';
  const limits = Object.entries(targets).map(([name, limit]) => `${name.replace('_', ' ')} ${sign} ${limit}`);
  return limits.length === 0 ? '' : `${limits.join(', ')}: ${met ? 'met' : 'missed'}`;
}

function paint(line: string, met: boolean | null): string {
  return met === null ? line : styleText(met ? 'green' : 'red', line);
}
