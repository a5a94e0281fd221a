/** A log that keeps what it is told, instead of printing it. */
export class MemoryLog {
  readonly lines: { level: string; text: string }[] = [];

  info = (...args: unknown[]) => this.#keep('info', args);
  warn = (...args: unknown[]) => this.#keep('warn', args);
  error = (...args: unknown[]) => this.#keep('error', args);

  #keep(level: string, args: unknown[]): void {
    this.lines.push({ level, text: args.filter((arg) => typeof arg === 'string').join(' ') });
  }
}

export const quietLog = new MemoryLog();
