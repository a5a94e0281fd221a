import { join } from 'node:path';
import { cacheDir } from '../images/index.ts';

/** What Rust builds is shared by all checkouts of this user. */
export const cargoEnv = { CARGO_TARGET_DIR: join(cacheDir(), 'cargo-target') };
