/** `perch install --systemd`: has systemd start both daemons and keep them running. Sandboxes live through all of it. */
import { mkdir, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { ifThere, run, writeDurably } from '@perch/node-kit';
import { dataPaths, readSettings, type Settings } from '@perch/protocol';
import { resolveArtifacts } from '../../../../images/index.ts';
import { CliError } from '../errors.ts';
import {
  type Environment,
  formatEnvironment,
  installed,
  installedSettings,
  parseEnvironment,
  places,
  requireSystemd,
  stopUnits,
  systemctl,
  unitNames,
  unitsRun,
  unitTexts,
} from '../systemd/index.ts';
import { renewCertificate, tlsFiles } from '../tls/index.ts';
import { requireFreeAddress } from './address.ts';
import { isUp } from './control-socket.ts';
import { fatalIn } from './daemon.ts';
import { commandOf, foundFor, prepare, secrets } from './daemons.ts';
import { earlierDaemonsEnded } from './earlier-daemons.ts';
import { takeFirstKey } from './first-key.ts';
import { programsBelow, removeOtherPrograms } from './programs.ts';
import { requireRoot } from './up.ts';
import { lookUpUser } from './user.ts';

export type InstallEvent =
  | { event: 'file'; path: string; change: 'created' | 'changed' | 'unchanged' | 'removed' }
  | { event: 'api_key'; key: string; file: string }
  /** `started`: whether the daemons were started, or started again, just now. */
  | { event: 'ready'; url: string; data_dir: string; started: boolean }
  | { event: 'stopped' };

type Report = (event: InstallEvent) => void;

interface File {
  path: string;
  /** Undefined for a file that must not be there. */
  text: string | undefined;
  mode: number;
}

/** Variables that are written to the files of settings. The others are for clients, or said by the units. */
const setting =
  /^(?!PERCH_(URL|CONFIG|DATA_DIR|KERNEL|INITRAMFS|BASE_IMAGE|BASE_IMAGE_ID|POSTGRES_DIR)$)(PERCH_[A-Z_]+|DATABASE_URL)$/;
const headings = {
  settings:
    'Settings of perch-host and perchd: see docs/OPERATIONS.md. Then: systemctl restart perch-host perchd',
  secrets: 'Settings that only perchd may know. Then: systemctl restart perchd',
};

/**
 * Writes what differs, and starts the daemons unless they run with just that.
 * @param env settings that count above those of the files; an empty one takes its line away
 * @throws CliError when Perch cannot run so, mostly before anything is written
 */
export async function install(env: NodeJS.ProcessEnv, start: boolean, report: Report): Promise<void> {
  requireRoot();
  requireSystemd();
  const all = await settingsFor(env);
  const settings = readSettings(all);
  const { dataDir, listen } = settings;
  if (await isUp(dataDir))
    throw new CliError(
      `\`perch up\` runs Perch on ${dataDir}.`,
      'Stop it with `perch down --keep` first. Sandboxes run on, and the daemons that systemd starts find them again.',
    );
  const running = await unitsRun(dataDir);
  if (start && !running) {
    await earlierDaemonsEnded(dataDir);
    await requireFreeAddress(listen);
  }
  const { programs, perch } = await prepare(settings, all);
  await renewCertificate(tlsFiles(dataDir), perch);
  let changed = false;
  for (const file of await filesFor(settings, all)) changed = (await write(file, report)) || changed;
  if (changed) await systemctl('daemon-reload');
  if (!start) return;
  await systemctl('enable', '--quiet', ...unitNames);
  if (changed || !running) await restart();
  await removeOtherPrograms(dataPaths(dataDir).bin, programs);
  const key = await takeFirstKey(settings);
  if (key) report({ event: 'api_key', ...key });
  report({ event: 'ready', url: `http://${listen}`, data_dir: dataDir, started: changed || !running });
}

/** Text of each file that `install` would write. Values of secrets are left out. Makes nothing. */
export async function installable(env: NodeJS.ProcessEnv): Promise<{ path: string; text: string }[]> {
  const all = await settingsFor(env);
  const files = await filesFor(readSettings(all), all);
  return files.flatMap(({ path, text }) => {
    if (text === undefined) return [];
    return [{ path, text: path === places.secrets ? text.replace(/^(\w+)=.*$/gm, '$1=…') : text }];
  });
}

/** Takes the units away. Data, settings and running sandboxes stay. */
export async function uninstall(env: NodeJS.ProcessEnv, report: Report): Promise<void> {
  requireRoot();
  requireSystemd();
  const found = await installed();
  if (!found) return;
  requireOwn(found.dataDir, env);
  await systemctl('disable', '--quiet', '--now', ...unitNames.toReversed());
  for (const name of unitNames) {
    const path = join(places.units, name);
    await rm(path, { force: true });
    report({ event: 'file', path, change: 'removed' });
  }
  await systemctl('daemon-reload');
  report({ event: 'stopped' });
}

/** Of the files below those of the environment. @throws CliError when the units here are of another Perch */
async function settingsFor(env: NodeJS.ProcessEnv): Promise<Environment> {
  const found = await installed();
  if (found) requireOwn(found.dataDir, env);
  const all: Environment = { ...(await installedSettings()) };
  if (found) all.PERCH_DATA_DIR = found.dataDir;
  for (const [name, value] of Object.entries(env)) if (value !== undefined) all[name] = value;
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== ''));
}

function requireOwn(dataDir: string, env: NodeJS.ProcessEnv): void {
  if (!env.PERCH_DATA_DIR || readSettings(env).dataDir === dataDir) return;
  throw new CliError(
    `The units on this machine are of the Perch on ${dataDir}.`,
    `Take them away first: PERCH_DATA_DIR=${dataDir} perch install --systemd --remove. Another Perch beside it is started by \`perch up\`.`,
  );
}

async function filesFor(settings: Settings, all: Environment): Promise<File[]> {
  const { dataDir, listen, network } = settings;
  const { bin, control } = dataPaths(dataDir);
  const { name: user } = await lookUpUser(all.PERCH_USER || 'perch');
  const programs = programsBelow(bin);
  const untilReady = (daemon: string) => [programs.node, programs.untilReady, daemon];
  const texts = unitTexts(
    {
      ...{ dataDir, user, controlDir: control },
      commands: {
        'perch-host.service': {
          run: commandOf(programs, programs.hostAgent),
          untilReady: untilReady('perch-host'),
        },
        'perchd.service': {
          run: commandOf(programs, programs.controlPlane),
          untilReady: untilReady('perchd'),
        },
      },
      renewCertificate: [programs.node, programs.renewCertificate],
      environment: foundFor(settings, user, programs, await resolveArtifacts(settings.cacheDir)),
    },
    places,
  );
  const chosen = Object.entries(all).filter(([name]) => setting.test(name));
  const open = chosen.filter(([name]) => !secrets.has(name));
  const hidden = chosen.filter(([name]) => secrets.has(name));
  const always = { PERCH_LISTEN: listen, PERCH_NETWORK: network };
  const env = (path: string, heading: string, environment: Environment): File => ({
    ...{ path, mode: 0o600, text: formatEnvironment(heading, environment) },
  });
  return [
    env(places.settings, headings.settings, { ...Object.fromEntries(open), ...always }),
    hidden.length > 0
      ? env(places.secrets, headings.secrets, Object.fromEntries(hidden))
      : { path: places.secrets, text: undefined, mode: 0o600 },
    ...unitNames.map((name) => ({ path: join(places.units, name), mode: 0o644, text: texts[name] })),
  ];
}

/** A file of settings that says the same in other words is left to whoever wrote it. @returns whether it was written */
async function write({ path, text, mode }: File, report: Report): Promise<boolean> {
  const before = await ifThere(readFile(path, 'utf8'));
  if (before === text || (before !== undefined && saysTheSame(path, before, text))) {
    if (text !== undefined) report({ event: 'file', path, change: 'unchanged' });
    return false;
  }
  if (text === undefined) {
    await rm(path);
    report({ event: 'file', path, change: 'removed' });
    return true;
  }
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  await writeDurably(path, text, { mode });
  report({ event: 'file', path, change: before === undefined ? 'created' : 'changed' });
  return true;
}

function saysTheSame(path: string, before: string, text: string | undefined): boolean {
  if (text === undefined || !path.endsWith('.env')) return false;
  return isDeepStrictEqual(parseEnvironment(path, before), parseEnvironment(path, text));
}

/** @throws CliError with the last words of the daemon that does not start */
async function restart(): Promise<void> {
  await stopUnits();
  try {
    await systemctl('start', ...unitNames);
  } catch (error) {
    const units = unitNames.flatMap((name) => ['-u', name]);
    const said = await run('journalctl', ['--no-pager', '-o', 'cat', '-n', '50', ...units]).catch(
      () => undefined,
    );
    const words = said && fatalIn(said.stdout);
    if (words === undefined || !(error instanceof CliError)) throw error;
    throw new CliError(`Perch does not start. ${words}`, error.remedy, { cause: error });
  }
}
