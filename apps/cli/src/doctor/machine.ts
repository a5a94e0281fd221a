/** The offers of the machine and its kernel. */
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
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
export function kvm(): Finding {
  const slow = 'Sandboxes run by emulation, about ten times slower. ';
  if (!existsSync('/dev/kvm')) {
    return warning(
      'KVM',
      '/dev/kvm is not there',
      `${slow}Use a machine with virtualization, or turn it on in the firmware.`,
    );
  }
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return ok('KVM', '/dev/kvm is there; perch-host starts a guest with it to see whether it works');
  } catch {
    return warning('KVM', '/dev/kvm may not be opened', `${slow}Run it as root.`);
  }
}

export function tunnel(): Finding {
  if (existsSync('/dev/net/tun')) return ok('/dev/net/tun', 'is there');
  return problem('/dev/net/tun', 'is not there, so that sandboxes have no network', 'modprobe tun');
}

export function cgroups(): Finding {
  if (existsSync('/sys/fs/cgroup/cgroup.controllers')) {
    const controllers = readFileSync('/sys/fs/cgroup/cgroup.controllers', 'utf8').trim().split(' ');
    const missing = ['cpu', 'memory', 'pids'].filter((name) => !controllers.includes(name));
    if (missing.length === 0) return ok('cgroups', 'version 2');
    return warning(
      'cgroups',
      `version 2, without ${missing.join(', ')}`,
      'Sandboxes run without these limits. Enable the controllers.',
    );
  }
  if (existsSync('/sys/fs/cgroup/memory')) return ok('cgroups', 'version 1');
  return warning(
    'cgroups',
    'none are mounted',
    'Sandboxes run without limits on the host. Mount cgroup2 at /sys/fs/cgroup.',
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
