/**
 * Messages of the QEMU Machine Protocol: JSON objects, one a line.
 * Source: docs/interop/qmp-spec.rst of QEMU 10.0.
 */
import { quoted } from '@perch/node-kit';

export interface QmpEvent {
  event: string;
  data: Record<string, unknown>;
}

export type QmpMessage =
  | { kind: 'greeting'; version: string }
  | { kind: 'return'; id: number; value: unknown }
  | { kind: 'error'; id: number | undefined; class: string; description: string }
  | { kind: 'event'; event: QmpEvent };

/** @throws Error for a line that is no message of this protocol */
export function parseMessage(line: string): QmpMessage {
  const message: unknown = JSON.parse(line);
  if (!isObject(message)) throw new Error('Not an object');
  const id = typeof message.id === 'number' ? message.id : undefined;
  if ('return' in message && id !== undefined) return { kind: 'return', id, value: message.return };
  const { QMP: greeting, error, event, data } = message;
  if (isObject(error)) {
    return { kind: 'error', id, class: text(error.class), description: text(error.desc) };
  }
  if (typeof event === 'string') {
    return { kind: 'event', event: { event, data: isObject(data) ? data : {} } };
  }
  if (isObject(greeting)) return { kind: 'greeting', version: versionOf(greeting) };
  throw new Error('Neither greeting, return, error nor event');
}

/** `{"version": {"qemu": {"major": 10, "minor": 0, "micro": 2}, …}}` */
function versionOf(greeting: Record<string, unknown>): string {
  const version = isObject(greeting.version) ? greeting.version : {};
  const qemu = isObject(version.qemu) ? version.qemu : {};
  return [qemu.major, qemu.minor, qemu.micro].map((part) => Number(part)).join('.');
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** It ends in errors and reasons, and QEMU may have been taken over. */
const text = (value: unknown) => (typeof value === 'string' ? quoted(value) : 'unknown');
