/** Settings that more than one program reads: environment variables, each with a default that works. */
import { realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

export interface Settings {
  /** `host:port` of the public API. */
  listen: string;
  /** Root of all state: absolute, and without symbolic links once it is there, as the kernel tells paths. */
  dataDir: string;
  /** Downloads and builds, by content. */
  cacheDir: string;
  /** IPv4 range of slot addresses, CIDR. */
  network: string;
  /** Sandboxes have names below it; undefined: that of the certificate, if there is one. */
  domain: string | undefined;
  logLevel: string;
}

export const logLevels: readonly string[] = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'];

/** Names below `localhost` are this machine's for browsers, curl, and by libnss-myhostname for all programs. */
export const defaultDomain = 'perch.localhost';

const domainPattern =
  /^(?=.{3,200}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** Whether it is a name in lower case that a wildcard can stand before: none of one label, and no address. */
export function isDomain(text: string): boolean {
  return domainPattern.test(text);
}

export function readSettings(env: NodeJS.ProcessEnv = process.env): Settings {
  return {
    listen: env.PERCH_LISTEN || '127.0.0.1:7070',
    dataDir: asTheKernelTellsIt(env.PERCH_DATA_DIR || '/var/lib/perch'),
    cacheDir: env.PERCH_CACHE || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'perch'),
    network: env.PERCH_NETWORK || '10.11.0.0/16',
    domain: env.PERCH_DOMAIN || undefined,
    logLevel: env.PERCH_LOG_LEVEL || 'info',
  };
}

/** A relative path stays one, for its readers to refuse. */
function asTheKernelTellsIt(path: string): string {
  if (!isAbsolute(path)) return path;
  try {
    return realpathSync(path);
  } catch {
    return path.replace(/(?<=.)\/+$/, '');
  }
}

/** Paths below the data directory that more than one program uses. */
export function dataPaths(dataDir: string) {
  return {
    /** The short id that every name of a resource carries; 6 characters of [a-z0-9] and a line end. */
    instance: join(dataDir, 'instance'),
    /** 0750 root:perch */
    run: join(dataDir, 'run'),
    /** Host API, 0660 root:perch. */
    hostSocket: join(dataDir, 'run', 'host.sock'),
    /** Bundled programs, by content; root-owned, readable. */
    bin: join(dataDir, 'bin'),
    /** State of perch-host, root. */
    host: join(dataDir, 'host'),
    /** State of perchd (embedded PostgreSQL), user perch. */
    control: join(dataDir, 'control'),
    /** Certificates for TLS, 0755 root. The key of the authority is root's, that of the server the user perch's. */
    tls: join(dataDir, 'tls'),
    /** Logs of the daemons. */
    log: join(dataDir, 'log'),
  };
}
