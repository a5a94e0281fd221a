import type { Settings } from '@perch/protocol';
import { resolveConfig } from '@perch/sdk';
import { artifacts } from './artifacts.ts';
import { certificate } from './certificate.ts';
import { daemons } from './daemons.ts';
import { disks } from './disks.ts';
import { elsewhere, isHere } from './elsewhere.ts';
import type { Finding } from './finding.ts';
import { cgroups, kvm, memory, nodeVersion, privileges, tunnel } from './machine.ts';
import { dns, listenAddress } from './network.ts';
import { settingNames } from './settings.ts';
import { perchUser, programs } from './software.ts';
import { storage } from './storage.ts';

export type { Finding } from './finding.ts';

/**
 * All of them, in the order in which they matter, of the Perch that the command line uses. A check that fails itself is
 * a finding, too.
 * @throws ConfigError where it is not clear which Perch that is
 */
export async function findings(settings: Settings): Promise<Finding[]> {
  const config = await resolveConfig();
  if (!isHere(config.url, settings.listen)) {
    return [nodeVersion(), settingNames(), ...(await elsewhere(config, settings.listen))];
  }
  const running = await daemons(settings, config);
  const checks: [name: string, check: () => Finding | Finding[] | Promise<Finding | Finding[]>][] = [
    ['root', privileges],
    ['node', nodeVersion],
    ['programs', programs],
    ['user', perchUser],
    ['settings', () => settingNames()],
    ['KVM', kvm],
    ['/dev/net/tun', tunnel],
    ['cgroups', cgroups],
    ['memory', memory],
    ['disks', () => disks()],
    ['artefacts', () => artifacts(settings)],
    ['data directory', () => storage(settings)],
    ['DNS', dns],
    ['TLS', () => certificate(settings)],
    ['address', () => listenAddress(settings, running.answers)],
  ];
  const results = await Promise.all(
    checks.map(async ([name, check]): Promise<Finding[]> => {
      try {
        return [await check()].flat();
      } catch (error) {
        const detail = error instanceof Error ? error.message : String(error);
        return [
          { name, status: 'warning', detail: `could not be looked at: ${detail}`, remedy: 'Run it as root.' },
        ];
      }
    }),
  );
  return [...results.flat(), ...running.findings];
}
