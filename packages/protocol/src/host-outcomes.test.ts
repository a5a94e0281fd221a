import { expect, test } from 'vitest';
import { PerchError } from './errors.ts';
import { meaningOf } from './host-outcomes.ts';

test('what a host refused before it made anything is told from what may have been done', () => {
  const full = new PerchError('host_disk_full', 'The disk is full.', {});
  expect([meaningOf('create', full), meaningOf('pause', full), meaningOf('resume', full)]).toEqual([
    'nothing',
    'running',
    'paused',
  ]);
  const failed = new PerchError('sandbox_failed', 'It burned.', { id: 'sb0', reason: 'it burned' });
  expect([meaningOf('create', failed), meaningOf('pause', failed), meaningOf('resume', failed)]).toEqual([
    'unknown',
    'failed',
    'failed',
  ]);
});

test('of an error that is no answer of a host nothing is known', () => {
  const away = new PerchError('host_unavailable', 'It does not answer.', { host_id: 'local' });
  for (const error of [away, new Error('ECONNRESET'), undefined]) {
    for (const call of ['create', 'pause', 'resume'] as const) expect(meaningOf(call, error)).toBe('unknown');
  }
});
