import { beforeAll, describe, expect, test } from 'vitest';
import type { InstallEvent } from '../apps/cli/src/launcher/index.ts';
import { factsOf, labMs } from './setup/lab-facts.ts';

/** By name. */
let facts: Record<string, unknown>;

beforeAll(async () => {
  facts = await factsOf(['systemd-in-lab.ts']);
}, labMs);

/** By the last part of its path, what an installation did with each file. */
function changes(name: string): Record<string, string> {
  const events = facts[name] as InstallEvent[];
  return Object.fromEntries(
    events.flatMap((event) => (event.event === 'file' ? [[event.path.split('/').at(-1), event.change]] : [])),
  );
}

const ending = (name: string) => (facts[name] as InstallEvent[]).at(-1);
const monitors = () => (facts.first as { monitors: number[] }).monitors;

describe('perch install --systemd', () => {
  test('writes units in which systemd finds no fault, starts them, and has them start with the machine', () => {
    expect(changes('install')).toEqual({
      ...{ 'settings.env': 'created', 'secrets.env': 'created' },
      ...{ 'perch-host.service': 'created', 'perchd.service': 'created' },
    });
    expect(ending('install')).toMatchObject({ event: 'ready', started: true });
    expect(facts.verify).toBe('');
    expect(facts.enabled).toBe('enabled\nenabled');
  });

  test('changes nothing and starts nothing when it is typed again', () => {
    expect(new Set(Object.values(changes('again')))).toEqual(new Set(['unchanged']));
    expect(ending('again')).toMatchObject({ event: 'ready', started: false });
  });

  test('replaces what differs, and starts the daemons again', () => {
    expect(changes('changed')).toMatchObject({ 'settings.env': 'changed', 'secrets.env': 'unchanged' });
    expect(ending('changed')).toMatchObject({ event: 'ready', started: true });
  });

  test('says which setting keeps a daemon from starting, and systemd does not try that again', () => {
    expect(facts.refused).toContain('PERCH_SLOT_POOL is many; it must be a whole number.');
    expect(facts['refused.state']).toEqual(['failed', '0']);
    expect(ending('mended')).toMatchObject({ event: 'ready', started: true });
  });

  test('--remove leaves no unit and no daemon, and does nothing the next time', () => {
    expect(facts.removed).toEqual({ monitors: monitors(), daemons: [], units: '' });
    expect(facts['removal.again']).toEqual([]);
  });
});

test('perchd has a user of its own, no capability, and a filter of system calls', () => {
  expect(facts.user).toBe('perch');
  expect(facts.perchd).toMatch(/^CapEff:\t0+$/m);
  expect(facts.perchd).toMatch(/^CapBnd:\t0+$/m);
  expect(facts.perchd).toMatch(/^NoNewPrivs:\t1$/m);
  expect(facts.perchd).toMatch(/^Seccomp:\t2$/m);
});

test('a secret is in the one file of perchd, and settings are for root alone', () => {
  expect(facts.secret).toEqual(['/etc/perch/secrets.env']);
  expect(facts.files).toEqual([
    ['secrets.env', 0o600],
    ['settings.env', 0o600],
  ]);
});

describe('a sandbox', () => {
  test('has its control group outside of that of the unit that made it', () => {
    expect(facts.cgroup).toMatch(/^0::\/perch-[a-z0-9]{6}\/\w+\n$/);
  });

  test.each(['restarted', 'started', 'replaced', 'killed', 'again after a fault'])(
    'is the same machine with all that was in its memory when the daemons were %s',
    (step) => {
      expect(monitors()).toHaveLength(1);
      expect(facts[step]).toEqual({
        ...{ monitors: monitors(), memory: 'kept\nalive\n', activity: ['active', 'active'] },
      });
    },
  );

  test('runs on while the units are stopped, which leave no daemon', () => {
    expect(facts.stopped).toEqual({ monitors: monitors(), daemons: [] });
  });
});

test('perch up tells that systemd runs Perch already', () => {
  expect(facts.up).toContain('systemd runs Perch on /data/ext4/perch already.');
});

test('perch down stops the units and leaves nothing', () => {
  expect(facts.down).toEqual({
    ...{ activity: ['inactive', 'inactive'], monitors: [], daemons: [], leaks: [] },
  });
});
