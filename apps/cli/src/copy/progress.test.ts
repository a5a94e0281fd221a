import { SingleBar } from 'cli-progress';
import { expect, onTestFinished, test, vi } from 'vitest';
import { Progress } from './progress.ts';

test('the speed is that of all that has passed, also when it comes as several files', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  vi.spyOn(SingleBar.prototype, 'start').mockReturnValue();
  vi.spyOn(SingleBar.prototype, 'stop').mockReturnValue();
  const shown = vi.spyOn(SingleBar.prototype, 'update').mockReturnValue();
  onTestFinished(() => {
    vi.useRealTimers();
    vi.restoreAllMocks();
  });
  using progress = new Progress(true, undefined);
  for (let file = 1; file <= 3; file++) {
    vi.advanceTimersByTime(1000);
    for await (const _ of progress.over(new Blob(['x'.repeat(2048)]).stream()));
    expect(shown).toHaveBeenLastCalledWith(file * 2048, { done: `${file * 2}.0 KiB`, speed: '2.0 KiB' });
  }
});
