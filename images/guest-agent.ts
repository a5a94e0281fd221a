import { copyFile, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cached, contentKey, readInputs } from './cache.ts';
import { run } from './commands.ts';
import { BuildError } from './errors.ts';

const TARGET = 'x86_64-unknown-linux-gnu';
const PACKAGE = 'perch-guest';
/** The sources of the program: a change of its tests makes no other guests. */
const INPUTS = [
  ...['Cargo.toml', 'Cargo.lock', '.cargo/config.toml'],
  ...['crates/guest-agent/Cargo.toml', 'crates/guest-agent/src'],
];
const PT_INTERP = 3;

/** Digest of the agent's sources. The compiler is left out, so that finding the agent needs no compiler. */
export async function guestAgentKey(root: string): Promise<string> {
  return contentKey(await readInputs(root, INPUTS));
}

/** Folder with `perch-guest`, a static program. */
export async function buildGuestAgent(root: string, cache: string): Promise<string> {
  return await cached(cache, 'guest-agent', await guestAgentKey(root), async (folder) => {
    // Checkouts that build at once share what they compile, and not the place of the program.
    const target = join(folder, 'target');
    await run('cargo', ['build', '--release', '--locked', '--target', TARGET, '-p', PACKAGE], {
      cwd: root,
      env: { CARGO_TARGET_DIR: target, CARGO_BUILD_BUILD_DIR: join(cache, 'cargo-target') },
      remedy: 'Perch needs Rust 1.85 or newer with cargo, a C linker (gcc) and access to crates.io.',
    });
    const program = join(target, TARGET, 'release', PACKAGE);
    if (!isStaticElf(await readFile(program))) {
      throw new BuildError(
        `${PACKAGE} is linked dynamically and cannot be the first program of a guest`,
        'Unset RUSTFLAGS and CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS: they override .cargo/config.toml.',
      );
    }
    await copyFile(program, join(folder, PACKAGE));
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
