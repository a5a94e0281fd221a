import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { pids, readStat } from '../packages/node-kit/src/index.ts';
import { dataPaths } from '../packages/protocol/src/index.ts';
import { domainDns } from './setup/domain-dns.ts';
import {
  commandLine,
  daemonPid,
  monitorOf,
  monitors,
  readInstance,
  run,
  statusField,
  vmsDir,
} from './setup/machine.ts';
import { newSandbox, sharedPerch, type TestSandbox } from './setup/sandbox.ts';
import { shared } from './setup/shared.ts';

const perch = sharedPerch();
const { dataDir, key, url } = shared;
const instance = readInstance(dataDir);
const paths = dataPaths(dataDir);

let one: TestSandbox;
let other: TestSandbox;

beforeAll(async () => {
  [one, other] = await Promise.all([newSandbox(perch), newSandbox(perch)]);
});

afterAll(async () => {
  await Promise.all([one, other].map((sandbox) => sandbox?.[Symbol.asyncDispose]()));
});

const uidOf = (pid: number) => statusField(pid, 'Uid')?.split('\t').map(Number) ?? [];
const namespaceOf = (pid: number, kind: string) => readlinkSync(`/proc/${pid}/ns/${kind}`);
const directoryOf = ({ id }: TestSandbox) => join(vmsDir(dataDir), id);

async function userId(kind: '-u' | '-g'): Promise<number> {
  return Number((await run('id', [kind, 'perch'])).stdout);
}

/** `0750 root:perch` as a number and two ids. */
function access(path: string): { mode: number; uid: number; gid: number } {
  const { mode, uid, gid } = statSync(path);
  return { mode: mode & 0o7777, uid, gid };
}

/**
 * Runs a line as the user of a VM monitor, with as little as it has, and in a directory that it would need
 * rights to change to. @returns whether it succeeded
 */
async function asMonitor(sandbox: TestSandbox, line: string, cwd = directoryOf(sandbox)): Promise<boolean> {
  const [uid] = uidOf(monitorOf(dataDir, sandbox.id));
  const user = [
    `--reuid=${uid}`,
    `--regid=${uid}`,
    '--clear-groups',
    '--bounding-set=-all',
    '--inh-caps=-all',
  ];
  return run('setpriv', [...user, '--no-new-privs', 'bash', '-c', line], { cwd }).then(
    () => true,
    () => false,
  );
}

describe('a VM monitor', () => {
  test('runs as a user of its own, with no capability and behind a filter of system calls', () => {
    const users = [one, other].map(({ id }) => uidOf(monitorOf(dataDir, id)));
    for (const uids of users) {
      expect(new Set(uids).size).toBe(1);
      expect(uids[0]).toBeGreaterThan(2 ** 30);
    }
    expect(users[0]).not.toEqual(users[1]);
    const pid = monitorOf(dataDir, one.id);
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
      expect(statusField(pid, set)).toBe('0000000000000000');
    }
    expect(statusField(pid, 'NoNewPrivs')).toBe('1');
    expect(statusField(pid, 'Seccomp')).toBe('2');
    expect(statusField(pid, 'Groups')?.trim()).toBe('');
  });

  test('has a session and namespaces of its own', () => {
    const [pid, neighbour] = [monitorOf(dataDir, one.id), monitorOf(dataDir, other.id)];
    expect(readStat(pid)?.session).toBe(pid);
    for (const kind of ['net', 'ipc', 'uts']) {
      expect(namespaceOf(pid, kind)).not.toBe(namespaceOf(process.pid, kind));
      expect(namespaceOf(pid, kind)).not.toBe(namespaceOf(neighbour, kind));
    }
  });

  test('is in a cgroup that limits its memory, its CPU time and its tasks', () => {
    const group = `/perch-${instance}/${one.id}`;
    const lines = readFileSync(`/proc/${monitorOf(dataDir, one.id)}/cgroup`, 'utf8')
      .trim()
      .split('\n');
    const limits = lines
      .filter((line) => line.endsWith(group))
      .flatMap((line) => {
        const [, controllers = ''] = line.split(':');
        const folder = controllers === '' ? '/sys/fs/cgroup' : `/sys/fs/cgroup/${controllers}`;
        return ['memory.max', 'memory.limit_in_bytes', 'cpu.max', 'cpu.cfs_quota_us', 'pids.max'].flatMap(
          (file) => readIfThere(join(folder, group, file)).map((text) => [file.split('.')[0], text] as const),
        );
      });
    const { memory, cpu, pids } = Object.fromEntries(limits) as Record<string, string>;
    expect(parseInt(memory ?? '', 10)).toBeGreaterThanOrEqual(one.memory_mb * 2 ** 20);
    expect(parseInt(memory ?? '', 10)).toBeLessThan((one.memory_mb + 512) * 2 ** 20);
    // One CPU of a period of 100 ms, and a tenth for the devices.
    expect(parseInt(cpu ?? '', 10)).toBe(110_000);
    expect(parseInt(pids ?? '', 10)).toBeLessThan(200);
  });

  test('can open its own disk, and nothing of another VM', async () => {
    expect(await asMonitor(one, ': < rootfs.qcow2')).toBe(true);
    const theirs = readdirSync(directoryOf(other));
    expect(theirs).toContain('rootfs.qcow2');
    for (const name of theirs) {
      expect(await asMonitor(one, `: < ${name}`, directoryOf(other))).toBe(false);
    }
    expect(await asMonitor(one, 'ls', directoryOf(other))).toBe(false);
    expect(await asMonitor(one, 'ls', vmsDir(dataDir))).toBe(false);
    const pid = monitorOf(dataDir, other.id);
    for (const file of ['mem', 'environ', 'maps']) {
      expect(await asMonitor(one, `: < /proc/${pid}/${file}`)).toBe(false);
    }
    expect(await asMonitor(one, `kill -0 ${pid}`)).toBe(false);
  });

  test('can write no template, kernel or memory file, though it reads them', async () => {
    const base = join(directoryOf(one), 'base.ext4');
    const template = join(dataDir, 'images/base/rootfs.ext4');
    expect(statSync(base).ino).toBe(statSync(template).ino);
    for (const name of ['base.ext4', 'kernel', 'initramfs', 'memfile']) {
      expect(await asMonitor(one, `: < ${name}`)).toBe(true);
      expect(await asMonitor(one, `: >> ${name}`)).toBe(false);
      expect(await asMonitor(one, `chmod u+w ${name}`)).toBe(false);
    }
    expect(await asMonitor(one, ': < rootfs.ext4', dirname(template))).toBe(false);
  });

  test('finds neither the sockets of the daemons, nor the database, nor the logs', async () => {
    for (const folder of [paths.run, paths.control, paths.log, join(dataDir, 'images')]) {
      expect(await asMonitor(one, `ls ${folder}`)).toBe(false);
    }
    expect(await asMonitor(one, `ls ${paths.bin}`)).toBe(true);
  });
});

describe('the daemons', () => {
  test('perchd runs as the user perch and can gain nothing', async () => {
    const pid = daemonPid(dataDir, 'perchd') ?? 0;
    expect(new Set(uidOf(pid))).toEqual(new Set([await userId('-u')]));
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
      expect(statusField(pid, set)).toBe('0000000000000000');
    }
    expect(statusField(pid, 'NoNewPrivs')).toBe('1');
  });

  test('perch-host runs as root', () => {
    expect(new Set(uidOf(daemonPid(dataDir, 'perch-host') ?? -1))).toEqual(new Set([0]));
  });

  test('what is in the data directory is for those who need it', async () => {
    const [uid, gid] = [await userId('-u'), await userId('-g')];
    expect(access(dataDir)).toEqual({ mode: 0o755, uid: 0, gid: 0 });
    expect(access(paths.run)).toEqual({ mode: 0o750, uid: 0, gid });
    expect(access(paths.hostSocket)).toEqual({ mode: 0o660, uid: 0, gid });
    expect(access(join(paths.run, 'up.sock'))).toMatchObject({ mode: 0o600, uid: 0 });
    expect(access(paths.host)).toEqual({ mode: 0o711, uid: 0, gid: 0 });
    expect(access(join(paths.host, 'journal.db'))).toMatchObject({ mode: 0o600, uid: 0 });
    expect(access(vmsDir(dataDir))).toEqual({ mode: 0o700, uid: 0, gid: 0 });
    expect(access(paths.control)).toEqual({ mode: 0o700, uid, gid });
    expect(access(paths.log)).toEqual({ mode: 0o700, uid: 0, gid: 0 });
    expect(access(join(dataDir, 'images'))).toEqual({ mode: 0o700, uid: 0, gid: 0 });
    expect(access(join(dataDir, 'images/base/rootfs.ext4'))).toMatchObject({ mode: 0o444, uid: 0 });
    for (const sandbox of [one, other]) {
      const [monitor] = uidOf(monitorOf(dataDir, sandbox.id));
      expect(access(directoryOf(sandbox))).toEqual({ mode: 0o700, uid: monitor, gid: monitor });
    }
  });

  test('the programs that run are root-owned, and writable by root alone', () => {
    for (const entry of readdirSync(paths.bin, { recursive: true, withFileTypes: true })) {
      if (entry.isSymbolicLink()) continue;
      const { mode, uid } = access(join(entry.parentPath, entry.name));
      expect({ name: entry.name, uid, others: mode & 0o022 }).toEqual({
        name: entry.name,
        uid: 0,
        others: 0,
      });
    }
  });

  test('the API is the one TCP port that Perch listens on, on the loopback, and the DNS that was asked for the one of UDP', async () => {
    const ours = new Set([
      daemonPid(dataDir, 'perchd'),
      daemonPid(dataDir, 'perch-host'),
      ...monitors(dataDir).values(),
      ...pids().filter((pid) => commandLine(pid).includes(`${dataDir}/`)),
    ]);
    const { stdout } = await run('ss', ['-Hltunp']);
    const listening = stdout
      .split('\n')
      .filter((line) => [...line.matchAll(/pid=(\d+)/g)].some(([, pid]) => ours.has(Number(pid))))
      .map((line) => line.split(/\s+/))
      .map(([protocol, , , , address]) => `${protocol} ${address}`);
    const { host, port } = new URL(url);
    const answersNames = `udp ${domainDns.address}:${domainDns.port}`;
    expect(listening.sort()).toEqual([`tcp ${host}`, `tcp [::1]:${port}`, answersNames].sort());
  });

  test('secrets are in no command line and in no log', async () => {
    const token = /[0-9a-f]{64}/;
    const ofPerch = pids().filter(
      (pid) => commandLine(pid).includes(dataDir) || commandLine(pid).includes(instance),
    );
    expect(ofPerch.length).toBeGreaterThan(0);
    for (const pid of ofPerch) expect(commandLine(pid)).not.toMatch(token);
    for (const pid of pids()) expect(commandLine(pid)).not.toContain(key);
    const logs = readdirSync(paths.log).map((name) => readFileSync(join(paths.log, name), 'utf8'));
    expect(logs.join('')).toContain(one.id);
    for (const log of logs) {
      expect(log).not.toContain(key);
      // Words that look like a token and are none: content ids of images.
      expect(log.replaceAll(/[Cc]ontent_?[iI]d"?:"[0-9a-f]{64}"/g, '')).not.toMatch(token);
    }
  });
});

function readIfThere(path: string): string[] {
  try {
    return [readFileSync(path, 'utf8').trim()];
  } catch {
    return [];
  }
}
