/** How each daemon is started: as whom, and with what environment. */
import { join } from 'node:path';
import type { User } from '@perch/node-kit';
import { dataPaths, type Settings } from '@perch/protocol';
import { type Artifacts, resolveArtifacts } from '../../../../images/index.ts';
import { Daemon } from './daemon.ts';
import { ensureLayout } from './layout.ts';
import { ensurePrograms, type Programs } from './programs.ts';
import { lookUpUser } from './user.ts';

export interface Prepared {
  instance: string;
  programs: Programs;
  perch: User;
  settings: Settings;
  env: Record<string, string>;
}

/** Daemons see these of our environment, and what is named below; nothing else. */
const passed = /^(PERCH_[A-Z_]+|DATABASE_URL|PATH|LANG|LC_ALL|TZ)$/;
/**
 * A small young generation keeps the resident memory of a busy daemon down by some 10 MB; an old one that is collected
 * when it has grown by half, and not by several times, bounds what bulk data adds to some tens of MB.
 */
const nodeFlags = ['--max-semi-space-size=2', '--heap-growing-percent=50'];
/** Settings that only the control plane may know. */
export const secrets = new Set(['PERCH_API_KEY', 'DATABASE_URL']);

/** Makes the data directory and the programs ready. @param all where daemons have their settings from */
export async function prepare(settings: Settings, all: NodeJS.ProcessEnv = process.env): Promise<Prepared> {
  const perch = await lookUpUser(all.PERCH_USER || 'perch');
  const instance = await ensureLayout(settings.dataDir, perch);
  const [programs, artifacts] = await Promise.all([
    ensurePrograms(dataPaths(settings.dataDir).bin),
    resolveArtifacts(settings.cacheDir),
  ]);
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(all)) if (value && passed.test(name)) env[name] = value;
  Object.assign(env, foundFor(settings, perch.name, programs, artifacts), {
    PERCH_LISTEN: settings.listen,
    PERCH_NETWORK: settings.network,
    ...(all.PERCH_PAGER ? { PERCH_PAGER: all.PERCH_PAGER } : {}),
  });
  return { instance, programs, perch, settings, env };
}

/** Parts of the environment of both daemons that are no settings of whoever starts them. */
export function foundFor(
  { dataDir }: Settings,
  user: string,
  { postgres }: Programs,
  { kernel, initramfs, pager, base }: Artifacts,
): Record<string, string> {
  return {
    NODE_ENV: 'production',
    // Threads that share one heap leave fewer pages that only one of them could use again.
    MALLOC_ARENA_MAX: '1',
    PERCH_DATA_DIR: dataDir,
    PERCH_USER: user,
    PERCH_KERNEL: kernel,
    PERCH_INITRAMFS: initramfs,
    PERCH_PAGER: pager,
    PERCH_BASE_IMAGE: base.rootfs,
    PERCH_BASE_IMAGE_ID: base.contentId,
    PERCH_POSTGRES_DIR: postgres,
  };
}

/** Tests that end daemons all the time set it to 0. */
function goodRunMs({ PERCH_GOOD_RUN_SEC: seconds }: Record<string, string>): number {
  return seconds && /^\d{1,6}$/.test(seconds) ? Number(seconds) * 1000 : 30_000;
}

/** Runs one of the two bundles. */
export function commandOf({ node }: Programs, bundle: string): string[] {
  return [node, ...nodeFlags, bundle];
}

type Crash = (name: string, how: string) => void;

/** perch-host, as root. Both daemons end when their starter does, and sandboxes live on. */
export function hostAgent({ programs, settings, env }: Prepared, onCrash: Crash): Daemon {
  const name = 'perch-host';
  return new Daemon({
    name,
    command: ['setpriv', '--pdeathsig', 'TERM', ...commandOf(programs, programs.hostAgent)],
    env: Object.fromEntries(Object.entries(env).filter(([key]) => !secrets.has(key))),
    logFile: join(dataPaths(settings.dataDir).log, 'perch-host.log'),
    goodRunMs: goodRunMs(env),
    onCrash: (how) => onCrash(name, how),
  });
}

/** perchd, as the unprivileged user, with nothing that could give it more. */
export function controlPlane({ programs, perch, settings, env }: Prepared, onCrash: Crash): Daemon {
  const name = 'perchd';
  return new Daemon({
    name,
    command: [
      'setpriv',
      `--reuid=${perch.uid}`,
      `--regid=${perch.gid}`,
      '--init-groups',
      '--no-new-privs',
      '--bounding-set=-all',
      '--inh-caps=-all',
      '--pdeathsig=TERM',
      ...commandOf(programs, programs.controlPlane),
    ],
    env,
    logFile: join(dataPaths(settings.dataDir).log, 'perchd.log'),
    goodRunMs: goodRunMs(env),
    onCrash: (how) => onCrash(name, how),
  });
}
