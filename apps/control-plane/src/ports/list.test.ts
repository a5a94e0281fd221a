import { expect, test, vi } from 'vitest';
import type { Guest } from '../guests/index.ts';
import { listPorts } from './list.ts';

test('a guest agent that never tells its ports is one that does not answer', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout'] });
  const silent: Pick<Guest, 'readFile'> = {
    readFile: (_path, { signal } = {}) =>
      new Promise((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason))),
  };
  const listed = listPorts(silent as Guest, 'sb0', 49_983, String).catch((error: unknown) => error);
  vi.runAllTimers();
  vi.useRealTimers();
  expect(await listed).toMatchObject({ code: 'guest_unavailable', details: { id: 'sb0' } });
});
