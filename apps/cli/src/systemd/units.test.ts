import { describe, expect, test } from 'vitest';
import { placesBelow, type UnitName } from './places.ts';
import { unquoted, valuesOf } from './unit-file.ts';
import { type UnitsOf, unitTexts } from './units.ts';

const places = placesBelow('/');
const of: UnitsOf = {
  dataDir: '/srv/perch',
  user: 'perch',
  controlDir: '/srv/perch/control',
  commands: {
    'perch-host.service': {
      run: ['/b/node', '/b/host.mjs'],
      untilReady: ['/b/node', '/b/ready.mjs', 'host'],
    },
    'perchd.service': {
      run: ['/b/node', '/b/perchd.mjs'],
      untilReady: ['/b/node', '/b/ready.mjs', 'perchd'],
    },
  },
  renewCertificate: ['/b/node', '/b/renew.mjs'],
  environment: { PERCH_KERNEL: '/c/vmlinuz' },
};

function reader(name: UnitName, units: UnitsOf = of) {
  const text = unitTexts(units, places)[name];
  return (section: string, key: string) => valuesOf(text, section, key);
}

describe('perch-host.service', () => {
  const get = reader('perch-host.service');

  test('leaves the monitors alone when it stops, and holds on to their controllers', () => {
    expect(get('Service', 'KillMode')).toEqual(['process']);
    expect(get('Service', 'Delegate')).toEqual(['yes']);
    expect(get('Service', 'OOMPolicy')).toEqual(['continue']);
  });

  test('sees the mounts of the machine, and gives its monitors no protection from the end of memory', () => {
    for (const key of ['ProtectSystem', 'ProtectHome', 'PrivateTmp', 'PrivateDevices', 'ReadWritePaths'])
      expect(get('Service', key)).toEqual([]);
    expect(get('Service', 'OOMScoreAdjust')).toEqual([]);
  });

  test('gets no secrets', () => {
    expect(get('Service', 'EnvironmentFile')).toEqual(['/etc/perch/settings.env']);
  });
});

describe('perchd.service', () => {
  const get = reader('perchd.service');

  test('has a user of its own, who may write to its own state and gain nothing', () => {
    expect(get('Service', 'User')).toEqual(['perch']);
    expect(get('Service', 'NoNewPrivileges')).toEqual(['yes']);
    expect(get('Service', 'CapabilityBoundingSet')).toEqual(['']);
    expect(get('Service', 'ProtectSystem')).toEqual(['strict']);
    expect(get('Service', 'ReadWritePaths')).toEqual(['/srv/perch/control']);
  });

  test('has its certificate renewed before by root, and starts without one', () => {
    expect(get('Service', 'ExecStartPre')).toEqual(['-+/b/node /b/renew.mjs']);
  });

  test('comes after the host agent, and lives without it', () => {
    expect(get('Unit', 'After')).toEqual(['perch-host.service']);
    expect(get('Unit', 'Wants')).toEqual(['perch-host.service']);
    expect(get('Unit', 'Requires')).toEqual([]);
  });

  test('starts without a file of secrets', () => {
    expect(get('Service', 'EnvironmentFile')).toEqual(['/etc/perch/settings.env', '-/etc/perch/secrets.env']);
  });

  test.each([
    ['/srv/perch', ['yes']],
    ['/home/me/perch', []],
    ['/root/perch', []],
  ])('with the data directory %s can reach it', (dataDir, protectHome) => {
    expect(reader('perchd.service', { ...of, dataDir })('Service', 'ProtectHome')).toEqual(protectHome);
  });
});

describe.each(['perch-host.service', 'perchd.service'] as const)('%s', (name) => {
  const get = reader(name);

  test('is not started again after a fault of its settings, and else always', () => {
    expect(get('Service', 'RestartPreventExitStatus')).toEqual(['78']);
    expect(get('Unit', 'StartLimitIntervalSec')).toEqual(['0']);
    expect(get('Service', 'Restart')[0]).toMatch(/^(always|on-failure)$/);
  });

  test('has started when the daemon answers', () => {
    expect(get('Service', 'ExecStartPost')[0]).toMatch(/^\/b\/node \/b\/ready\.mjs /);
  });

  test('may take as long to answer as a daemon of perch up', () => {
    expect(get('Service', 'TimeoutStartSec')).toEqual(['900']);
  });

  test('starts with the machine', () => {
    expect(get('Install', 'WantedBy')).toEqual(['multi-user.target']);
  });

  test('names paths as they are, whatever systemd makes of their characters', () => {
    const odd = '/srv/a b%i$HOME"\\';
    const get = reader(name, {
      ...of,
      dataDir: odd,
      commands: { ...of.commands, [name]: { run: [`${odd}/node`], untilReady: [`${odd}/node`] } },
      environment: { PERCH_KERNEL: odd },
    });
    expect(get('Service', 'ExecStart')).toEqual(['"/srv/a b%%i$$HOME\\"\\\\/node"']);
    expect(get('Unit', 'RequiresMountsFor')).toEqual(['"/srv/a b%%i$HOME\\"\\\\"']);
    expect(get('Service', 'Environment')).toEqual(['"PERCH_KERNEL=/srv/a b%%i$HOME\\"\\\\"']);
    expect(get('Unit', 'X-PerchDataDirectory').map(unquoted)).toEqual([odd]);
  });
});
