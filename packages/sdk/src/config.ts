/** Where Perch is and the key for it: environment variables, then the user's config file. */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { readSettings } from '@perch/protocol';

export interface ClientConfig {
  url: string;
  apiKey: string | undefined;
  /** The config file, whether it is there or not. */
  file: string;
}

export function readClientConfig(env: NodeJS.ProcessEnv = process.env): ClientConfig {
  const file =
    env.PERCH_CONFIG || join(env.XDG_CONFIG_HOME || join(homedir(), '.config'), 'perch/config.json');
  const saved = readSaved(file);
  const listen = env.PERCH_LISTEN ? `http://${readSettings(env).listen}` : undefined;
  return {
    url: env.PERCH_URL || listen || saved.url || `http://${readSettings(env).listen}`,
    apiKey: env.PERCH_API_KEY || saved.api_key,
    file,
  };
}

function readSaved(file: string): { url?: string; api_key?: string } {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as { url?: string; api_key?: string };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new Error(`${file} cannot be read; mend or remove it.`, { cause: error });
  }
}
