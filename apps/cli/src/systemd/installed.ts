/** The units that are on this machine, and the settings that they were given. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, ifThere } from '@perch/node-kit';
import { readSettings } from '@perch/protocol';
import { CliError } from '../errors.ts';
import { type Environment, parseEnvironment } from './environment-file.ts';
import { places as machine, type Places, unitNames } from './places.ts';
import { unquoted, valuesOf } from './unit-file.ts';
import { dataDirKey } from './units.ts';

export interface Installed {
  dataDir: string;
}

/**
 * Undefined when there are no units of these names.
 * @throws CliError when one of them is somebody else's
 */
export async function installed(places: Places = machine): Promise<Installed | undefined> {
  let found: Installed | undefined;
  for (const name of unitNames) {
    const path = join(places.units, name);
    const text = await ifThere(readFile(path, 'utf8'));
    if (text === undefined) continue;
    const [dataDir] = valuesOf(text, 'Unit', dataDirKey).map(unquoted);
    if (dataDir === undefined)
      throw new CliError(
        `${path} was not written by \`perch install\`.`,
        'Move it out of the way: `perch install --systemd` writes one of its own.',
      );
    found ??= { dataDir };
  }
  return found;
}

/** The settings of the files; none where there are no files, or where we may not read them. */
export async function installedSettings({ settings, secrets }: Places = machine): Promise<Environment> {
  const environment: Environment = {};
  for (const path of [settings, secrets])
    Object.assign(environment, parseEnvironment(path, await read(path)));
  return environment;
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'EACCES')) return '';
    throw error;
  }
}

/**
 * The environment with the settings of the units below it: of a Perch that systemd starts here, unless another data
 * directory is named.
 */
export async function localEnvironment(
  env = process.env,
  places: Places = machine,
): Promise<NodeJS.ProcessEnv> {
  const units = await installed(places).catch(() => undefined);
  if (units === undefined) return env;
  if (env.PERCH_DATA_DIR && readSettings(env).dataDir !== units.dataDir) return env;
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value));
  return { ...(await installedSettings(places)), PERCH_DATA_DIR: units.dataDir, ...given };
}
