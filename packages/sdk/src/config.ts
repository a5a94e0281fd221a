import { ConfigError } from './errors.ts';
import type { GivenConfig } from './given-config.ts';

export interface Config {
  /** Without a slash at its end. */
  url: string;
  apiKey: string | undefined;
}

export const defaultUrl = 'http://127.0.0.1:7070';

/** From what is given, the environment and the config file, in this order. @throws ConfigError */
export async function resolveConfig(given: GivenConfig = {}): Promise<Config> {
  const env = typeof process === 'undefined' ? {} : process.env;
  const url = given.url || env.PERCH_URL || (env.PERCH_LISTEN && `http://${env.PERCH_LISTEN}`);
  const apiKey = given.apiKey || env.PERCH_API_KEY;
  const file = url && apiKey ? {} : await readConfigFile();
  return { url: cleanUrl(url || file.url || defaultUrl), apiKey: apiKey || file.apiKey };
}

/** Node only: the file that is read first, where `perch up` writes URL and key. */
export async function configFile(): Promise<string> {
  const { firstConfigFile } = await import('./config-file.ts');
  return firstConfigFile();
}

function cleanUrl(text: string): string {
  const url = URL.parse(text);
  if (!url || !/^https?:$/.test(url.protocol)) {
    throw new ConfigError(
      `The URL of Perch is "${text}".`,
      'Set PERCH_URL to one with http:// or https://, such as http://127.0.0.1:7070.',
    );
  }
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
}

async function readConfigFile(): Promise<GivenConfig> {
  if (typeof process === 'undefined' || !process.versions?.node) return {};
  const { loadConfigFile } = await import('./config-file.ts');
  return loadConfigFile();
}
