import { join } from 'node:path';
import { cacheDir } from '../images/index.ts';

/** The builds of Rust are shared by all checkouts of this user. */
export const cargoEnv = { CARGO_TARGET_DIR: join(cacheDir(), 'cargo-target') };
