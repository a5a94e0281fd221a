/** The daemons' own words, when they run. */
import { type HostInfo, monitorNames, type Settings } from '@perch/protocol';
import { type Config, Perch } from '@perch/sdk';
import { hostSocket } from '../launcher/index.ts';
import { type Finding, ok, problem, warning } from './finding.ts';
import { key } from './key.ts';
import { perchd, silentPerchd } from './perchd.ts';

const waitMs = 5_000;
const start = 'Start Perch: `perch up`, as root.';

export async function daemons(
  settings: Settings,
  { apiKey }: Config,
): Promise<{ findings: Finding[]; answers: boolean }> {
  const url = `http://${settings.listen}`;
  const perch = new Perch({ url, apiKey: apiKey ?? 'none', retries: 0 });
  const [health, host] = await Promise.all([
    perch.health({ timeoutMs: waitMs }).catch(() => undefined),
    hostSocket(settings.dataDir)
      .info()
      .catch((error: NodeJS.ErrnoException) => error),
  ]);
  const findings = health
    ? [
        perchd(url, health, `Read the logs in ${settings.dataDir}/log.`),
        (await key(perch, apiKey, waitMs)).finding,
      ]
    : [silentPerchd(url, process.env.PERCH_URL ? problem : warning, start)];
  findings.push(...(host instanceof Error ? [absent(host, settings)] : present(host, settings)));
  return { findings, answers: health !== undefined };
}

function absent(error: NodeJS.ErrnoException, { dataDir }: Settings): Finding {
  const name = 'perch-host';
  if (error.code === 'EACCES')
    return warning(name, 'its socket is for root and perch only', 'Run it as root.');
  return warning(name, `does not run on ${dataDir}; its monitor is probed when it starts`, start);
}

function present(info: HostInfo, { dataDir }: Settings): Finding[] {
  const { machine, why, ready, problems, slots, memory_mb, disk_mb } = info;
  const { monitor, disk } = machine;
  const running = `${monitorNames[monitor.kind]} ${monitor.version} with ${monitor.accelerator}: ${why}`;
  const room = `${memory_mb.free} MiB of memory, ${disk_mb.free} MiB of disk and ${slots.total - slots.used} network slots are free for sandboxes`;
  return [
    ready
      ? ok('perch-host', `${info.version}, instance ${info.instance}`)
      : problem('perch-host', problems.join('; ') || 'not ready', `Read ${dataDir}/log/perch-host.log.`),
    monitor.accelerator === 'kvm'
      ? ok('accelerator', running)
      : warning('accelerator', running, 'Sandboxes are about ten times slower than with KVM.'),
    ok('disks', `${disk.format} over the base image`),
    ok('room', room),
  ];
}
