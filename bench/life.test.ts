import { afterEach, expect, test, vi } from 'vitest';
import type { Bench } from './bench.ts';
import { life } from './life.ts';

afterEach(() => {
  vi.unstubAllEnvs();
});

async function measured(memoryMb?: number) {
  vi.stubEnv('PERCH_LAB', '1');
  const create = vi.fn<(wish: { memory_mb: number }) => Promise<{ id: string }>>(async () => ({ id: 'sb' }));
  const done = async () => {};
  const sandboxes = { create, exec: done, pause: done, resume: done, delete: done };
  const snapshots = { create: done, flatten: done, delete: done };
  const rest = { memoryMb, atMost: 1, signal: new AbortController().signal, progress: () => {} };
  const rows = await life({ instance: { perch: { sandboxes, snapshots } }, ...rest } as unknown as Bench);
  return { rows, memory: new Set(create.mock.calls.map(([wish]) => wish.memory_mb)) };
}

test('sandboxes live with the memory of the other system, beside its figures', async () => {
  const { rows, memory } = await measured();
  expect(memory).toEqual(new Set([256]));
  for (const row of rows)
    expect(row).toMatchObject({ floor: [expect.any(Number)], targets: { ratio_p50: 1 } });
});

test('with --memory they have that, and the other system has no figures for it', async () => {
  const { rows, memory } = await measured(128);
  expect(memory).toEqual(new Set([128]));
  for (const row of rows) {
    expect(row.name).toMatch(/^128 MiB/);
    expect(row).not.toHaveProperty('floor');
  }
});
