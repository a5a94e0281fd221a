/** A Perch that is not the one of this machine's settings: what can be asked of it from afar. */
import { type Config, Perch } from '@perch/sdk';
import { type Finding, ok, problem, warning } from './finding.ts';
import { perchd } from './perchd.ts';

const waitMs = 5_000;

/** Whether a URL names the Perch that listens at `listen`, by whichever name this machine has for itself. */
export function isHere(url: string, listen: string): boolean {
  const [named, own] = [new URL(url), URL.parse(`http://${listen}`)];
  if (named.protocol !== 'http:' || named.pathname !== '/' || own === null) return false;
  const port = ({ port }: URL) => port || '80';
  return port(named) === port(own) && (named.hostname === own.hostname || [named, own].every(isOwnName));
}

function isOwnName({ hostname }: URL): boolean {
  return /^(localhost|127(\.\d+){3}|\[::1\]|0\.0\.0\.0|\[::\])$/.test(hostname);
}

export async function elsewhere({ url, apiKey }: Config, listen: string): Promise<Finding[]> {
  const perch = new Perch({ url, apiKey: apiKey ?? 'none', retries: 0 });
  const health = await perch.health({ timeoutMs: waitMs }).catch(() => undefined);
  const checked = [perchd(url, health, `Read the logs of the Perch at ${url}.`)];
  if (health) checked.push(...(await hosts(perch, apiKey)));
  return [
    ok('machine', `not looked at: ${url} is meant, and this machine's Perch would be http://${listen}`),
    ...checked,
  ];
}

async function hosts(perch: Perch, apiKey: string | undefined): Promise<Finding[]> {
  const remedy = 'Set PERCH_API_KEY, or write it as api_key into the config file.';
  if (apiKey === undefined) return [problem('API key', 'none is set', remedy)];
  try {
    const all = await perch.hosts.list({ timeoutMs: waitMs });
    return [
      ok('API key', 'is valid'),
      ...all.map(({ id, status }) =>
        status === 'ready'
          ? ok(`host ${id}`, status)
          : warning(`host ${id}`, status, 'Run `perch doctor` on its machine.'),
      ),
    ];
  } catch (error) {
    return [problem('API key', error instanceof Error ? error.message : String(error), remedy)];
  }
}
