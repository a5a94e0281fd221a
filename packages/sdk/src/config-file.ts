/** The user's config file, `{"url", "api_key"}`, mode 0600; `perch up` writes it. Node only. */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { findUser, hasCode } from '@perch/node-kit';
import { ConfigError } from './errors.ts';

export interface GivenConfig {
  url?: string | undefined;
  apiKey?: string | undefined;
}

/** @returns nothing when there is no file */
export async function loadConfigFile(env: NodeJS.ProcessEnv = process.env): Promise<GivenConfig> {
  for (const path of await candidates(env)) {
    const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
      throw new ConfigError(
        `${path} cannot be read (${error.code}).`,
        'Give it back to its user, with mode 0600.',
        {
          cause: error,
        },
      );
    });
    if (text !== undefined) return parse(path, text);
  }
  return {};
}

/** Where it is looked for first. */
export async function firstConfigFile(env: NodeJS.ProcessEnv = process.env): Promise<string> {
  const [first = ''] = await candidates(env);
  return first;
}

/** Under sudo the file is that of the user who typed it. */
async function candidates(env: NodeJS.ProcessEnv): Promise<string[]> {
  if (env.PERCH_CONFIG) return [env.PERCH_CONFIG];
  const homes = [homedir()];
  const sudoUser = process.getuid?.() === 0 ? env.SUDO_USER : undefined;
  const home = sudoUser ? (await findUser(sudoUser))?.home : undefined;
  if (home) homes.unshift(home);
  return homes.map((folder) => join(folder, '.config/perch/config.json'));
}

function parse(path: string, text: string): GivenConfig {
  try {
    const { url, api_key } = JSON.parse(text) as { url?: unknown; api_key?: unknown };
    if ([url, api_key].every((value) => value === undefined || typeof value === 'string')) {
      return { url: url as string | undefined, apiKey: api_key as string | undefined };
    }
  } catch {
    // A text that is no JSON is told like one of another shape: it may hold the key.
  }
  throw new ConfigError(
    `${path} is not a config file of Perch.`,
    'Write {"url": "http://127.0.0.1:7070", "api_key": "perch_…"} into it, or remove it and set PERCH_API_KEY.',
  );
}
