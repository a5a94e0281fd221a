/**
 * The life of a sandbox on one host.
 *
 * ```
 *               create              pause               resume
 * (none) ──▶ creating ──▶ running ──▶ pausing ──▶ paused ──▶ resuming ──▶ running
 *               │          │   ▲         │ undo: thaw  ▲         │
 *               │          │   └─────────┘             └─────────┘ undo: teardown
 *               │          ├──▶ snapshotting | forking ──▶ running, copied or not
 *               ▼          ▼
 *             failed ◀── the VM ended, or a step failed and could not be undone
 *
 * from every one of them ──▶ destroying ──▶ (gone)
 * ```
 *
 * | state | holds | a caller can |
 * |---|---|---|
 * | creating | what its steps have made so far | wait, destroy |
 * | running | monitor, disk, slot | use the guest, pause, destroy |
 * | pausing | the same, stopped, and the snapshot that is being written | wait, destroy |
 * | snapshotting, forking | the same, stopped for a moment, and the copy that is being written | use the guest, wait, destroy |
 * | paused | its snapshot | resume, destroy |
 * | resuming | its snapshot, and what the steps of a start have made so far | wait, destroy |
 * | failed | its checkpoints, once its teardown is done; the reason stays | read the reason, destroy |
 * | destroying | what its teardown has not removed yet | wait |
 */
import type { SandboxStatus } from '@perch/protocol';

export type HostState = Extract<
  SandboxStatus,
  | 'creating'
  | 'running'
  | 'pausing'
  | 'paused'
  | 'resuming'
  | 'snapshotting'
  | 'forking'
  | 'failed'
  | 'destroying'
  | 'destroyed'
>;

const next: Record<HostState, readonly HostState[]> = {
  creating: ['running', 'failed', 'destroying'],
  running: ['pausing', 'snapshotting', 'forking', 'failed', 'destroying'],
  pausing: ['paused', 'running', 'failed', 'destroying'],
  paused: ['resuming', 'destroying'],
  resuming: ['running', 'paused', 'destroying'],
  snapshotting: ['running', 'failed', 'destroying'],
  forking: ['running', 'failed', 'destroying'],
  failed: ['destroying'],
  destroying: ['destroyed'],
  destroyed: [],
};

/** No way leads back from `destroying`: a destroy that could not finish is tried again, never given up. */
export function canGo(from: HostState, to: HostState): boolean {
  return next[from].includes(to);
}

export function assertCanGo(id: string, from: HostState, to: HostState): void {
  if (!canGo(from, to)) throw new Error(`Sandbox ${id} cannot go from ${from} to ${to}.`);
}
