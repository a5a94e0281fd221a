/**
 * What Firecracker counts: a line of JSON with each flush, of what was added since the one before. It comes from the jail,
 * so it is bounded, and nothing in it is believed but numbers of these names. Source: src/vmm/src/logger/metrics.rs, 1.12.
 */
import type { Counters } from '../counters.ts';

const counted: Readonly<Record<string, readonly string[]>> = {
  block: [
    ...['read_bytes', 'write_bytes', 'read_count', 'write_count', 'flush_count'],
    ...['execute_fails', 'invalid_reqs_count', 'rate_limiter_throttled_events'],
  ],
  net: [
    ...['rx_bytes_count', 'tx_bytes_count', 'rx_packets_count', 'tx_packets_count'],
    ...['rx_fails', 'tx_fails', 'tap_read_fails', 'tap_write_fails'],
    ...['rx_rate_limiter_throttled', 'tx_rate_limiter_throttled'],
  ],
  vcpu: ['exit_io_in', 'exit_io_out', 'exit_mmio_read', 'exit_mmio_write', 'failures'],
  entropy: ['entropy_bytes'],
  seccomp: ['num_faults'],
  vmm: ['panic_count'],
};

/** Longest line, bytes. One of 1.12 has some 20 KiB. */
const maxLineBytes = 256 * 1024;

export class CountedLines {
  readonly #counters: Counters;
  #rest = '';

  constructor(counters: Counters) {
    this.#counters = counters;
  }

  /** Any part of the lines, in order. */
  take(bytes: Buffer): void {
    const lines = `${this.#rest}${bytes.toString('latin1')}`.split('\n');
    const rest = lines.pop() ?? '';
    this.#rest = rest.length > maxLineBytes ? '' : rest;
    for (const line of lines) this.#count(line);
  }

  #count(line: string): void {
    const groups = objectIn(() => JSON.parse(line));
    for (const [of, names] of Object.entries(counted)) {
      const group = objectIn(() => groups[of]);
      for (const name of names) {
        const by = Object.hasOwn(group, name) ? group[name] : undefined;
        if (typeof by === 'number') this.#counters.add(of, name, by);
      }
    }
  }
}

/** Empty for what is none: a line may have been cut off where the FIFO was full. */
function objectIn(find: () => unknown): Record<string, unknown> {
  try {
    const found = find();
    return typeof found === 'object' && found !== null ? (found as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
