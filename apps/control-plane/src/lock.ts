/** One perchd on one state directory. */
import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError } from './config/index.ts';
import { startTime } from './database/index.ts';

/** Holds the directory until it is disposed of. A process that died holds nothing. */
export async function lockDirectory(dir: string): Promise<AsyncDisposable> {
  const path = join(dir, 'perchd.pid');
  const own = `${process.pid} ${await startTime(process.pid)}`;
  for (;;) {
    try {
      const file = await open(path, 'wx', 0o600);
      await file.writeFile(own);
      await file.close();
      return { [Symbol.asyncDispose]: () => rm(path, { force: true }) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const [pid, started] = (await readFile(path, 'utf8').catch(() => '')).split(' ');
    if (pid && started && (await startTime(Number(pid))) === started) {
      throw new ConfigError(
        `a perchd (pid ${pid}) already works in ${dir}: stop it, or set another PERCH_DATA_DIR`,
      );
    }
    await rm(path, { force: true });
  }
}
