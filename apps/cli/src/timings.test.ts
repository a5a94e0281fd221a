import type { SandboxTransition } from '@perch/sdk';
import { expect, test } from 'vitest';
import { timingsLine } from './timings.ts';

test('a line says what took how long, the whole first', () => {
  const line = (status: string, timings_ms: Record<string, number>) =>
    timingsLine({ status, timings_ms } as SandboxTransition);
  expect(line('paused', { freeze: 1.26, device_state: 12.6, total: 148.2 })).toBe(
    'paused in 148 ms: freeze 1.3, device state 13',
  );
  expect(line('running', { total: 9 })).toBe('running in 9 ms');
  expect(line('running', {})).toBe('running');
});
