/** Failpoints of steps that several operations share, named after the one that a sandbox is in. */
import { type CaptureStep, failpoint, type StartStep, type TeardownStep } from '../../failpoints/index.ts';
import type { SandboxRecord } from './journal.ts';
import type { HostState } from './state-machine.ts';

type Of = Pick<SandboxRecord, 'kind' | 'status'>;

/** @param of while it is started, `creating` or `resuming` */
export function started({ kind, status }: Of, step: StartStep): void {
  failpoint(`${status === 'resuming' ? 'resume' : starts[kind]}.${step}`);
}

const starts = { sandbox: 'create', boot: 'template', ready: 'ready' } as const;

const captures: Partial<Record<HostState, 'pause' | 'snapshot' | 'fork'>> = {
  pausing: 'pause',
  snapshotting: 'snapshot',
  forking: 'fork',
};

export function captured({ status }: Of, step: CaptureStep): void {
  const operation = captures[status];
  if (operation) failpoint(`${operation}.${step}`);
}

const teardowns: Partial<Record<HostState, 'pause' | 'destroy' | 'fail' | 'undo'>> = {
  pausing: 'pause',
  destroying: 'destroy',
  failed: 'fail',
  resuming: 'undo',
};

export function tornDown({ status }: Of, step: TeardownStep): void {
  const operation = teardowns[status];
  if (operation) failpoint(`${operation}.${step}`);
}
