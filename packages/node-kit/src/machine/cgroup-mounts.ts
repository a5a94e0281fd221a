/** Where the control group hierarchies are mounted. */

/** The resources that Perch limits. */
export const controllers = ['memory', 'cpu', 'pids'] as const;
export type Controller = (typeof controllers)[number];

export interface CgroupMounts {
  v2: string | undefined;
  v1: Partial<Record<Controller, string>>;
}

/**
 * Lines of /proc/PID/mountinfo, proc_pid_mountinfo(5):
 * `36 35 98:0 /root /mount/point options [optional fields] - type source super-options`
 */
export function parseCgroupMounts(mountinfo: string): CgroupMounts {
  const found: CgroupMounts = { v2: undefined, v1: {} };
  for (const line of mountinfo.split('\n')) {
    const [before = '', after = ''] = line.split(' - ');
    const point = unescapePath(before.split(' ')[4] ?? '');
    const [type, , options = ''] = after.split(' ');
    if (type === 'cgroup2') found.v2 ??= point;
    if (type !== 'cgroup') continue;
    for (const name of controllers) if (options.split(',').includes(name)) found.v1[name] ??= point;
  }
  return found;
}

/** Spaces, tabs, line ends and backslashes are written as three octal digits. */
function unescapePath(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
