/** The offers of the machine and its kernel. */
import { existsSync, readFileSync } from 'node:fs';
import { findCgroups, kvmObstacle } from '@perch/node-kit';
import { type Finding, ok, problem, warning } from './finding.ts';

const leastMemoryMb = 1024;

export function privileges(): Finding {
  if (process.getuid?.() === 0) return ok('root', 'this is root');
  return warning(
    'root',
    'this is not root: `perch up` and `perch down` need it, and some checks see less',
    'Type it again with sudo.',
  );
}

export function nodeVersion(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const detail = `${process.versions.node} at ${process.execPath}`;
  if (major > 24 || (major === 24 && minor >= 11)) return ok('node', detail);
  return problem(
    'node',
    `${detail}; 24.11 or newer is needed`,
    'Start it by `npm run perch`, which brings its own.',
  );
}

/** Whether a guest really starts with it is probed by perch-host, and told below. */
export async function kvm(): Promise<Finding> {
  const obstacle = await kvmObstacle();
  if (obstacle === undefined)
    return ok('KVM', '/dev/kvm opens; perch-host starts a guest with it to see whether it works');
  return warning(
    'KVM',
    obstacle,
    'Sandboxes run by emulation, about ten times slower. Use a machine with virtualization, turned on in the firmware, as root.',
  );
}

export function tunnel(): Finding {
  if (existsSync('/dev/net/tun')) return ok('/dev/net/tun', 'is there');
  return problem('/dev/net/tun', 'is not there, so that sandboxes have no network', 'modprobe tun');
}

/** @param mountinfo the text of /proc/self/mountinfo */
export async function cgroups(mountinfo?: string): Promise<Finding> {
  const { description, missing } = await findCgroups(mountinfo);
  if (missing.length === 0) return ok('cgroups', description);
  // Only root can hand controllers on, which shows whether version 2 will do.
  if (process.getuid?.() !== 0) return warning('cgroups', 'this user cannot tell', 'Run it as root.');
  return warning(
    'cgroups',
    `${description}, without ${missing.join(', ')}`,
    'Sandboxes run without these limits on the host. Mount cgroup2 at /sys/fs/cgroup, with these controllers.',
  );
}

export function memory(): Finding {
  const text = readFileSync('/proc/meminfo', 'utf8');
  const of = (name: string) =>
    Math.floor(Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0) / 1024);
  const detail = `${of('MemAvailable')} MiB of ${of('MemTotal')} MiB are available`;
  if (of('MemAvailable') >= leastMemoryMb) return ok('memory', detail);
  return warning('memory', detail, 'Few sandboxes fit. Stop other programs, or destroy sandboxes.');
}
