/** Variables that look like settings and are none: a slip of the pen works in silence otherwise. */
import { type Finding, ok, warning } from './finding.ts';

/** All that some program of Perch reads. */
const known = new Set(
  [
    'API_KEY BASE_IMAGE BASE_IMAGE_ID BOOT_SNAPSHOTS CACHE CONFIG CONTROL_FAILPOINTS DATA_DIR DISK_MB_PER_SEC DISK_REQUESTS_PER_SEC DNS DOMAIN DOMAIN_DNS FAILPOINTS FIRECRACKER GOOD_RUN_SEC',
    'HISTORY INITRAMFS JAILER KEEP_DISK_MB KERNEL LISTEN LOG_LEVEL MEMORY_MB MERGE_LAYERS MERGE_PERCENT NET_MB_PER_SEC NETWORK PAGER POSTGRES_DIR PREFETCH_MB PUBLIC_URL RATE_LIMIT READY',
    'READY_MAX READY_PRESSURE RESTORE ROOTFS SLOT_POOL SLOT_REST_SEC URL USER VMM',
    // Of the tests.
    'CHAOS_KILLS CHAOS_SEED FAILPOINT_ROUNDS FAILPOINT_SEED FAILPOINT_VICTIMS GUEST_BIN POWER_CUTS POWER_SEED ENCLOSED',
  ]
    .join(' ')
    .split(' '),
);

export function settingNames(env: NodeJS.ProcessEnv = process.env): Finding {
  const names = Object.keys(env).filter((name) => name.startsWith('PERCH_'));
  const unknown = names.filter((name) => !known.has(name.slice('PERCH_'.length)));
  if (unknown.length === 0)
    return ok('settings', names.length === 0 ? 'all have their defaults' : names.join(', '));
  return warning(
    'settings',
    `${unknown.join(', ')}: nothing of Perch reads it`,
    'docs/OPERATIONS.md lists all there are.',
  );
}
