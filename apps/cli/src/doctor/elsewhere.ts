/** A Perch that is not the one of this machine's settings: what can be asked of it from afar. */
import { type Config, Perch } from '@perch/sdk';
import { type Finding, ok, problem, warning } from './finding.ts';
import { key } from './key.ts';
import { perchd, silentPerchd } from './perchd.ts';

const waitMs = 5_000;
const notThere =
  'Check that Perch runs there and that no firewall is in between; else correct PERCH_URL, or the url in the config file.';

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
  return [
    ok('machine', `not looked at: ${url} is meant, and this machine's Perch would be http://${listen}`),
    ...(health
      ? [perchd(url, health, `Read the logs of the Perch at ${url}.`), ...(await keyAndHosts(perch, apiKey))]
      : [silentPerchd(url, problem, notThere)]),
  ];
}

async function keyAndHosts(perch: Perch, apiKey: string | undefined): Promise<Finding[]> {
  const { finding, hosts } = await key(perch, apiKey, waitMs);
  return [
    finding,
    ...hosts.map(({ id, status }) =>
      status === 'ready'
        ? ok(`host ${id}`, status)
        : warning(`host ${id}`, status, 'Run `perch doctor` on its machine.'),
    ),
  ];
}
