import { Presets, SingleBar } from 'cli-progress';

/** Counts what passes, and draws a bar of it on standard error. */
export class Progress implements Disposable {
  bytes = 0;
  readonly #began = performance.now();
  readonly #bar: SingleBar | undefined;

  constructor(show: boolean, size: number | undefined) {
    if (!show) return;
    this.#bar = new SingleBar(
      {
        stream: process.stderr,
        hideCursor: true,
        format:
          size === undefined
            ? '{done}  {speed}/s'
            : '{bar} {percentage} %  {done} of {size}  {speed}/s  {eta_formatted}',
      },
      Presets.shades_classic,
    );
    this.#bar.start(size ?? 0, 0, { done: '0 B', size: inUnits(size ?? 0), speed: '0 B' });
  }

  async *over(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
    for await (const chunk of source) {
      this.bytes += chunk.byteLength;
      const speed = inUnits((this.bytes / (performance.now() - this.#began)) * 1000);
      this.#bar?.update(this.bytes, { done: inUnits(this.bytes), speed });
      yield chunk;
    }
  }

  [Symbol.dispose](): void {
    this.#bar?.stop();
  }
}

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** Such as `3.4 MiB`. */
export function inUnits(bytes: number): string {
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${power === 0 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}
