/** Words that fields of the API have for values. They stand apart from the schemas, which cost each start that loads them. */

export const sandboxStatuses = [
  'creating',
  'running',
  'pausing',
  'paused',
  'resuming',
  'snapshotting',
  'forking',
  'failed',
  'destroying',
  'destroyed',
] as const;

/** Of sandboxes whose commands stand still and go on. */
export const resumableStatuses: readonly string[] = [
  'paused',
  'resuming',
] satisfies (typeof sandboxStatuses)[number][];

export const signals = ['SIGINT', 'SIGTERM', 'SIGKILL', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;
export type SignalName = (typeof signals)[number];

/** First byte of a binary message of `exec/stream`; the bytes of that stream follow. */
export const streamNumbers = { stdin: 0, stdout: 1, stderr: 2 } as const;

/** Of copy-on-write layers: each kind of disk has its own. */
export const layerFormats = ['dm-snapshot', 'qcow2'] as const;

/** Names for people, by the kind that files and answers have. */
export const monitorNames = { qemu: 'QEMU', firecracker: 'Firecracker' } as const;
