/** Programs that stand in for Firecracker and its jailer, see `stand-in.py`. */
import { existsSync } from 'node:fs';
import { chmod, copyFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';

/** @param dir where they are put, once. They are known by their names. */
export async function standInPrograms(dir: string): Promise<{ firecracker: string; jailer: string }> {
  const programs = { firecracker: join(dir, 'firecracker'), jailer: join(dir, 'jailer') };
  if (!existsSync(programs.firecracker)) {
    await copyFile(join(import.meta.dirname, 'stand-in.py'), programs.firecracker);
    await chmod(programs.firecracker, 0o755);
    await symlink(programs.firecracker, programs.jailer);
  }
  return programs;
}
