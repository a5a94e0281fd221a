/** What a guest is not stopped for. */
import { expect, test, vi } from 'vitest';
import { SnapshotDirectory } from '../../snapshot/index.ts';
import { temporaryDirectory } from '../../snapshot/testing.ts';
import { FakeMachine, memoryIn } from '../testing.ts';
import { type Capture, type CaptureTarget, capture } from './capture.ts';

const frozen = new Error('far enough');

/** Begins the capture of a guest whose memory is in so many files. */
async function begin(kind: Capture['kind'], files: number) {
  await using dir = await temporaryDirectory();
  const temporary = new SnapshotDirectory(dir.path);
  const freeze = vi.fn(() => Promise.reject(frozen));
  const record = { id: 'sb1', vm: 'sb1', captures: 1, disk_mb: 64, memory_mb: 128 };
  const signal = new AbortController().signal;
  const from = { record, vm: { freeze }, dir: dir.path, uid: 1, kind, memory: true, signal };
  const to = { temporary, parentMemory: memoryIn(files), disks: new FakeMachine().disk };
  const error = await capture(from as unknown as Capture, to as unknown as CaptureTarget).catch(
    (cause: unknown) => cause,
  );
  return { error, freeze };
}

test('a guest whose memory is in too many files is not copied while it runs, and is not stopped for it', async () => {
  const { error, freeze } = await begin('snapshot', 129);
  expect(String(error)).toContain('Its memory is in more than 128 files');
  expect(freeze).not.toHaveBeenCalled();
});

test.each([
  ['copied while it runs, with as many files as there may be', 'snapshot', 128],
  ['paused, however many files its memory is in', 'pause', 129],
] as const)('a guest is %s', async (_, kind, files) => {
  expect((await begin(kind, files)).error).toBe(frozen);
});
