/** Keeps an answer that takes seconds to find. A file that cannot be read or says something else is no answer. */
import { readFile, rename, writeFile } from 'node:fs/promises';

export interface Kept {
  /** Whether a guest has run. */
  runs: boolean;
  why: string;
}

export async function readAnswer(file: string, key: Record<string, string>): Promise<Kept | undefined> {
  try {
    const kept = JSON.parse(await readFile(file, 'utf8')) as { key?: unknown; answer?: Partial<Kept> };
    if (JSON.stringify(kept.key) !== JSON.stringify(key)) return undefined;
    const { runs, why } = kept.answer ?? {};
    return typeof runs === 'boolean' && typeof why === 'string' ? { runs, why } : undefined;
  } catch {
    return undefined;
  }
}

/** Not synced: a torn file is no answer, and the next start asks again. */
export async function writeAnswer(file: string, key: Record<string, string>, answer: Kept): Promise<void> {
  await writeFile(`${file}.new`, `${JSON.stringify({ key, answer })}\n`, { mode: 0o600 });
  await rename(`${file}.new`, file);
}
