/** The figures for people. */
import { styleText } from 'node:util';
import type { Figure } from './figures.ts';
import { quietShare } from './load.ts';

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
  'others',
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
    `${Math.round(figure.others * 100)} %${figure.trusted ? '' : ' !'}`,
    target(figure),
  ]);
  const [head = '', ...lines] = aligned([heads, ...rows], new Set([0, 1, heads.length - 1]));
  const painted = lines.map((line, i) => paint(line, figures[i]?.met ?? null));
  return [styleText('bold', head), ...painted, ...untrusted(figures)].join('\n');
}

/** A figure as soon as it is there: a long run may be broken off before its table. */
export function line({ name, unit, n, p50, ratio_p50: ratio }: Figure): string {
  const beside = ratio === null ? '' : `, ${ratio} × its floor`;
  return `  ${name}: ${n > 1 ? 'p50 ' : ''}${p50} ${unit}${beside}`;
}

/** Lines of a table. @param left columns of text; numbers are at the right */
export function aligned(rows: readonly (readonly string[])[], left: ReadonlySet<number>): string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  const cell = (text: string, i: number) =>
    left.has(i) ? text.padEnd(widths[i] ?? 0) : text.padStart(widths[i] ?? 0);
  return rows.map((row) => row.map(cell).join('  ').trimEnd());
}

/** A line that tells of figures which somebody else disturbed. */
function untrusted(figures: readonly Figure[]): string[] {
  if (figures.every(({ trusted }) => trusted)) return [];
  const share = `${quietShare * 100} %`;
  const text = `! Others had more than ${share} of the processors meanwhile: not to be trusted, measure again.`;
  return [styleText('yellow', text)];
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
