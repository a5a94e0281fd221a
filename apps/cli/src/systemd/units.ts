/** The two units of Perch: systemd.service(5), systemd.exec(5), systemd.kill(5). */
import { exitCannotStart } from '@perch/node-kit';
import type { Environment } from './environment-file.ts';
import type { Places, UnitName } from './places.ts';
import { startMs, stopMs } from './time-limits.ts';
import { command, formatUnit, quoted, type Section, words } from './unit-file.ts';

export interface UnitsOf {
  dataDir: string;
  /** User that perchd runs as. */
  user: string;
  /** State of perchd: all that it may write to. */
  controlDir: string;
  /** Program and arguments of each daemon, and of the wait until it answers. */
  commands: Readonly<Record<UnitName, { run: readonly string[]; untilReady: readonly string[] }>>;
  /** Run as root before each start of perchd. */
  renewCertificate: readonly string[];
  /** No secrets: everybody can read units. */
  environment: Environment;
}

const heading = 'Written by `perch install --systemd`, which also replaces and removes it.';
const dataDirKey = 'X-PerchDataDirectory';

export function unitTexts(of: UnitsOf, places: Places): Record<UnitName, string> {
  const settings: Section = [['EnvironmentFile', places.settings]];
  return {
    'perch-host.service': formatUnit(heading, {
      Unit: [
        ['Description', 'Perch: virtual machines, disks and networks of sandboxes'],
        ['Wants', 'network-online.target'],
        // The rules of a machine that are loaded anew take away those of others.
        ['After', 'network-online.target nftables.service'],
        ...unitSection(of),
      ],
      Service: [...serviceSection(of, 'perch-host.service'), ...settings, ...hostSection],
      Install: installSection,
    }),
    'perchd.service': formatUnit(heading, {
      Unit: [
        ['Description', 'Perch: API and database'],
        ['Wants', 'perch-host.service'],
        ['After', 'perch-host.service'],
        ...unitSection(of),
      ],
      Service: [
        ...serviceSection(of, 'perchd.service'),
        ...settings,
        ['EnvironmentFile', `-${places.secrets}`],
        // As root, and perchd starts all the same without a certificate.
        ['ExecStartPre', `-+${command(of.renewCertificate)}`],
        ['User', of.user],
        ...controlSection,
        ['ReadWritePaths', words([of.controlDir])],
        // It would hide a data directory that lies there.
        ...(/^\/(home|root|run\/user)\//.test(of.dataDir) ? [] : [['ProtectHome', 'yes'] as const]),
      ],
      Install: installSection,
    }),
  };
}

export { dataDirKey };

const installSection: Section = [['WantedBy', 'multi-user.target']];

function unitSection({ dataDir }: UnitsOf): Section {
  return [
    ['RequiresMountsFor', words([dataDir])],
    // An obstacle may last, as a disk that is full does: each start is tried after a rest.
    ['StartLimitIntervalSec', '0'],
    [dataDirKey, quoted(dataDir)],
  ];
}

function serviceSection({ commands, environment }: UnitsOf, name: UnitName): Section {
  return [
    ['Type', 'exec'],
    ['ExecStart', command(commands[name].run)],
    ['ExecStartPost', command(commands[name].untilReady)],
    ['TimeoutStartSec', String(startMs / 1000)],
    ['TimeoutStopSec', String(stopMs / 1000)],
    ['RestartSec', '2'],
    ['RestartPreventExitStatus', String(exitCannotStart)],
    ['UMask', '0077'],
    ['LimitNOFILE', '1048576'],
    ['LogRateLimitIntervalSec', '0'],
    ...Object.entries(environment).map(([key, value]) => ['Environment', quoted(`${key}=${value}`)] as const),
  ];
}

/**
 * Nothing that needs a mount namespace of its own: network namespaces that are made in one cannot be seen from outside.
 * No OOMScoreAdjust either, which each VM monitor would have from it.
 */
const hostSection: Section = [
  ['Restart', 'always'],
  // The monitors are its children. With cgroup v1 they are in its group of systemd's, too.
  ['KillMode', 'process'],
  ['OOMPolicy', 'continue'],
  ['TasksMax', 'infinity'],
  // The groups of the VMs lie beside this one. Whoever delegates has all controllers handed on down to here.
  ['Delegate', 'yes'],
];

const controlSection: Section = [
  ['Restart', 'on-failure'],
  // It stops its PostgreSQL itself.
  ['KillMode', 'mixed'],
  ['NoNewPrivileges', 'yes'],
  ['CapabilityBoundingSet', ''],
  ['ProtectSystem', 'strict'],
  ['PrivateTmp', 'yes'],
  ['PrivateDevices', 'yes'],
  ['ProtectClock', 'yes'],
  ['ProtectControlGroups', 'yes'],
  ['ProtectHostname', 'yes'],
  ['ProtectKernelLogs', 'yes'],
  ['ProtectKernelModules', 'yes'],
  ['ProtectKernelTunables', 'yes'],
  ['RestrictAddressFamilies', 'AF_UNIX AF_INET AF_INET6 AF_NETLINK'],
  ['RestrictNamespaces', 'yes'],
  ['RestrictRealtime', 'yes'],
  ['RestrictSUIDSGID', 'yes'],
  ['LockPersonality', 'yes'],
  ['SystemCallArchitectures', 'native'],
  ['SystemCallFilter', '@system-service'],
  // A call that nobody thought of fails, and ends nothing.
  ['SystemCallErrorNumber', 'EPERM'],
];
