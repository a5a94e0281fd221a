/** The daemons' own words, when they run. */
import { type HostInfo, monitorNames, type Settings } from '@perch/protocol';
import { Perch } from '@perch/sdk';
import { HostSocket } from '../launcher/index.ts';
import { type Finding, ok, problem, warning } from './finding.ts';
import { perchd } from './perchd.ts';

export async function daemons(settings: Settings): Promise<{ findings: Finding[]; answers: boolean }> {
  const url = `http://${settings.listen}`;
  const [health, host] = await Promise.all([
    new Perch({ url, apiKey: 'none', retries: 0 }).health({ timeoutMs: 5_000 }).catch(() => undefined),
    new HostSocket(settings.dataDir).info().catch((error: NodeJS.ErrnoException) => error),
  ]);
  const findings = [perchd(url, health, `Read the logs in ${settings.dataDir}/log.`)];
  findings.push(...(host instanceof Error ? [absent(host, settings)] : present(host, settings)));
  return { findings, answers: health !== undefined };
}

function absent(error: NodeJS.ErrnoException, { dataDir }: Settings): Finding {
  const name = 'perch-host';
  if (error.code === 'EACCES')
    return warning(name, 'its socket is for root and perch only', 'Run it as root.');
  return warning(
    name,
    `does not run on ${dataDir}; QEMU and KVM are probed when it starts`,
    'Start Perch: `perch up`, as root.',
  );
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
