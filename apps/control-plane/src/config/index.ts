/** Settings of perchd: environment variables, read once at start. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { apiKeyPattern, dataPaths, isDomain, logLevels, readSettings } from '@perch/protocol';

export interface RateLimit {
  /** Requests that may come at once. */
  burst: number;
  /** Seconds in which a used-up burst is refilled. */
  seconds: number;
}

export interface HostAddress {
  id: string;
  /** Path of the unix socket of its agent. */
  socket: string;
}

export interface Config {
  listen: { host: string; port: number };
  /** State of perchd, 0700. */
  controlDir: string;
  /** Today it is this machine alone. */
  hosts: [HostAddress, ...HostAddress[]];
  /** Id of this Perch, which its host has too; unknown when no launcher made the data directory. */
  instance: string | undefined;
  /** Sandboxes have names below it; undefined: that of the certificate, if there is one. */
  domain: string | undefined;
  /** Where clients find this Perch, below which sandboxes have names; undefined: where a request came. */
  publicUrl: URL | undefined;
  /** Where questions of DNS for names below it are answered, on loopback; undefined: nowhere. */
  domainDns: { host: string; port: number } | undefined;
  /** Holds `server.pem` and `server.key` when TLS is offered. */
  tlsDir: string;
  /** A server of one's own; the embedded one when absent. */
  databaseUrl: string | undefined;
  /** `native/` of the embedded PostgreSQL; found in the installed package when absent. */
  postgresDir: string | undefined;
  /** Fixes the first API key. */
  firstApiKey: string | undefined;
  logLevel: string;
  rateLimit: RateLimit;
  /** Port of the guest agent at a sandbox's slot address. */
  guestPort: number;
  /** File that says where this process shall end, or wait: for tests. */
  failpoints: string | undefined;
}

/** A setting that the operator has to correct. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/** The obstacle to a start of perchd lies outside of it, and may pass. */
export class StartError extends Error {
  override readonly name = 'StartError';
}

export function readConfig(env: NodeJS.ProcessEnv = process.env): Config {
  const settings = readSettings(env);
  if (!settings.dataDir.startsWith('/')) {
    throw new ConfigError(`PERCH_DATA_DIR must be an absolute path, got "${settings.dataDir}"`);
  }
  if (!logLevels.includes(settings.logLevel)) {
    throw new ConfigError(
      `PERCH_LOG_LEVEL must be one of ${logLevels.join(', ')}, got "${settings.logLevel}"`,
    );
  }
  const paths = dataPaths(settings.dataDir);
  const publicUrl = parsePublicUrl(env.PERCH_PUBLIC_URL);
  const instance = readInstance(settings.dataDir);
  return {
    listen: parseListen(settings.listen),
    controlDir: paths.control,
    domain: parseDomain(settings.domain) ?? publicUrl?.hostname,
    publicUrl,
    domainDns: parseDomainDns(env.PERCH_DOMAIN_DNS),
    tlsDir: paths.tls,
    hosts: [{ id: instance ?? 'local', socket: paths.hostSocket }],
    instance,
    databaseUrl: parseDatabaseUrl(env.DATABASE_URL),
    postgresDir: env.PERCH_POSTGRES_DIR || undefined,
    firstApiKey: parseApiKey(env.PERCH_API_KEY),
    logLevel: settings.logLevel,
    rateLimit: parseRateLimit(env.PERCH_RATE_LIMIT || '6000/10'),
    guestPort: 49983,
    failpoints: env.PERCH_CONTROL_FAILPOINTS || undefined,
  };
}

function parseListen(text: string): Config['listen'] {
  const at = parseAddress(text);
  if (at) return at;
  throw new ConfigError(`PERCH_LISTEN must be host:port, such as 127.0.0.1:7070, got "${text}"`);
}

function parseAddress(text: string): { host: string; port: number } | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return host && port <= 65_535 ? { host, port } : undefined;
}

function parseDomain(text: string | undefined): string | undefined {
  if (text === undefined || isDomain(text)) return text;
  throw new ConfigError(`PERCH_DOMAIN must be a name in lower case, such as sbx.test, got "${text}"`);
}

function parsePublicUrl(text: string | undefined): URL | undefined {
  if (!text) return undefined;
  const url = URL.parse(text);
  if (url && /^https?:$/.test(url.protocol) && isDomain(url.hostname) && url.href === `${url.origin}/`)
    return url;
  throw new ConfigError(
    `PERCH_PUBLIC_URL must be http:// or https://, a name and perhaps a port, such as https://sbx.example.com, got "${text}"`,
  );
}

/** It says that names are this machine, which is true for this machine alone. */
function parseDomainDns(text: string | undefined): Config['domainDns'] {
  if (!text) return undefined;
  const at = parseAddress(text);
  if (at && (/^127(?:\.\d{1,3}){3}$/.test(at.host) || at.host === '::1')) return at;
  throw new ConfigError(
    `PERCH_DOMAIN_DNS must be an address of loopback and a port, such as 127.0.0.1:5353, got "${text}"`,
  );
}

function readInstance(dataDir: string): string | undefined {
  try {
    return readFileSync(dataPaths(dataDir).instance, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** The value may hold a password, so that the message does not repeat it. */
function parseDatabaseUrl(url: string | undefined): string | undefined {
  if (!url) return undefined;
  if (!/^postgres(?:ql)?:\/\//.test(url) || !URL.canParse(url)) {
    throw new ConfigError('DATABASE_URL must be postgres://user:password@host/database');
  }
  return url;
}

/** The value is a secret, so that the message does not repeat it. */
function parseApiKey(key: string | undefined): string | undefined {
  if (!key) return undefined;
  if (!new RegExp(apiKeyPattern).test(key)) {
    throw new ConfigError('PERCH_API_KEY must be "perch_" or "e2b_" and 40 lower-case hex digits');
  }
  return key;
}

function parseRateLimit(text: string): RateLimit {
  const match = /^(\d{1,9})\/(\d{1,6})$/.exec(text);
  const burst = Number(match?.[1]);
  const seconds = Number(match?.[2]);
  if (!(burst >= 1) || !(seconds >= 1)) {
    throw new ConfigError(`PERCH_RATE_LIMIT must be requests/seconds, such as 6000/10, got "${text}"`);
  }
  return { burst, seconds };
}

/** Where the first key waits for the launcher, which moves it to the user's configuration. */
export function firstKeyFile(controlDir: string): string {
  return join(controlDir, 'first-key');
}
