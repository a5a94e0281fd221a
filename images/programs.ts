/** The programs of `crates/`, each kept by the content of its sources. */
import { copyFile, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cached, contentKey, readInputs } from './cache.ts';
import { run } from './commands.ts';
import { BuildError } from './errors.ts';

const TARGET = 'x86_64-unknown-linux-gnu';
const PT_INTERP = 3;

type RustProgram = {
  /** Of the cache. */
  kind: string;
  /** Of the package, and of the program. */
  name: string;
  crate: string;
};

/** The first program of a guest. */
export const guestAgent: RustProgram = {
  kind: 'guest-agent',
  name: 'perch-guest',
  crate: 'crates/guest-agent',
};

/** Serves the memory of guests that go on. */
export const pager: RustProgram = { kind: 'pager', name: 'perch-pager', crate: 'crates/pager' };

/** Digest of its sources. The compiler is left out, so that finding the program needs no compiler. */
export async function programKey(root: string, { crate }: RustProgram): Promise<string> {
  // A change of its tests makes no other program.
  const own = [join(crate, 'Cargo.toml'), join(crate, 'src')];
  return contentKey(await readInputs(root, ['Cargo.toml', 'Cargo.lock', '.cargo/config.toml', ...own]));
}

/** Folder with the program, which is static. */
export async function buildProgram(root: string, cache: string, program: RustProgram): Promise<string> {
  const { kind, name } = program;
  return await cached(cache, kind, await programKey(root, program), async (folder) => {
    // Checkouts that build at once share what they compile, and not the place of the program.
    const target = join(folder, 'target');
    await run('cargo', ['build', '--release', '--locked', '--target', TARGET, '-p', name], {
      cwd: root,
      env: { CARGO_TARGET_DIR: target, CARGO_BUILD_BUILD_DIR: join(cache, 'cargo-target') },
      remedy: 'Perch needs Rust 1.85 or newer with cargo, a C linker (gcc) and access to crates.io.',
    });
    const built = join(target, TARGET, 'release', name);
    if (!isStaticElf(await readFile(built))) {
      throw new BuildError(
        `${name} is linked dynamically, and runs where there may be no C library`,
        'Unset RUSTFLAGS and CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS: they override .cargo/config.toml.',
      );
    }
    await copyFile(built, join(folder, name));
    await rm(target, { recursive: true });
  });
}

/** True when a 64-bit ELF program names no interpreter. Offsets are those of elf(5). */
function isStaticElf(elf: Buffer): boolean {
  const table = Number(elf.readBigUInt64LE(32));
  const size = elf.readUInt16LE(54);
  const count = elf.readUInt16LE(56);
  return Array.from({ length: count }, (_, i) => elf.readUInt32LE(table + i * size)).every(
    (type) => type !== PT_INTERP,
  );
}
