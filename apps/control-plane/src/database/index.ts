export { claimDatabase, refuseOthersSandboxes } from './claim.ts';
export { connect, type Database, type DatabaseAddress } from './connect.ts';
export { EmbeddedPostgres } from './embedded-postgres.ts';
export { migrate } from './migrations.ts';
export { type Owner, privateDir } from './postgres-files.ts';
export type { NewSandboxRow, SandboxChanges, SandboxRow, Tables } from './tables.ts';
