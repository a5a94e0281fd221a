/** Lets systemd run a Perch in the lab. */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { down, type InstallEvent, install, leaks, uninstall, up } from '../../apps/cli/src/launcher/index.ts';
import { newApiKey, readSettings } from '../../packages/protocol/src/index.ts';
import { Perch } from '../../packages/sdk/src/index.ts';
import { LabFacts } from './lab-facts.ts';

const key = newApiKey();
const env: NodeJS.ProcessEnv = {
  ...process.env,
  ...{ PERCH_DATA_DIR: '/data/ext4/perch', PERCH_READY: '0', PERCH_API_KEY: key },
  // The probe gives KVM less time than a guest takes here, and emulation in an emulated machine takes minutes.
  PERCH_VMM: 'qemu-kvm',
};
const settings = readSettings(env);
const perch = new Perch({ url: `http://${settings.listen}`, apiKey: key });
const units = ['perch-host.service', 'perchd.service'] as const;
const facts = new LabFacts();
const fact = facts.add.bind(facts);

const runs = promisify(execFile);

/** Output of a program, whatever its exit code. */
async function says(file: string, ...args: string[]): Promise<string> {
  const { stdout, stderr } = await runs(file, args).catch(
    (error: unknown) => error as { stdout: string; stderr: string },
  );
  return `${stdout}${stderr}`.trim();
}

const property = (unit: string, name: string) =>
  says('systemctl', 'show', `--property=${name}`, '--value', unit);
const activity = () => Promise.all(units.map((unit) => property(unit, 'ActiveState')));

async function events(
  work: (report: (event: InstallEvent) => void) => Promise<void>,
): Promise<InstallEvent[]> {
  const all: InstallEvent[] = [];
  await work((event) => all.push(event));
  return all;
}

const installed = (changes: NodeJS.ProcessEnv = {}) =>
  events((report) => install({ ...env, ...changes }, true, report));

async function refusal(work: () => Promise<unknown>): Promise<string> {
  return await work().then(
    () => 'it was not refused',
    (error: unknown) => String(error),
  );
}

/** Pids of what runs a program with this in its path. */
function running(program: string): number[] {
  return readdirSync('/proc')
    .filter((pid) => {
      try {
        return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/exe`).includes(program);
      } catch {
        // A thread of the kernel has none, and others end meanwhile.
        return false;
      }
    })
    .map(Number);
}

const monitors = () => running('/qemu-system');
const daemons = () => running(`${settings.dataDir}/bin/`);

async function memory(id: string): Promise<string> {
  const script = 'cat /dev/shm/word && kill -0 $(cat /dev/shm/pid) && echo alive';
  return (await perch.sandboxes.exec(id, { cmd: 'sh', args: ['-c', script], timeout_sec: 300 })).stdout;
}

async function look(name: string, id: string): Promise<void> {
  fact(name, { monitors: monitors(), memory: await memory(id), activity: await activity() });
}

fact('install', await installed());
fact(
  'verify',
  await says('systemd-analyze', 'verify', ...units.map((unit) => `/etc/systemd/system/${unit}`)),
);
fact('enabled', await says('systemctl', 'is-enabled', ...units));
const perchd = await property('perchd.service', 'MainPID');
fact('perchd', readFileSync(`/proc/${perchd}/status`, 'utf8'));
fact('user', await says('ps', '-o', 'user=', '-p', perchd));
fact(
  'files',
  readdirSync('/etc/perch').map((name) => [name, statSync(`/etc/perch/${name}`).mode & 0o777]),
);
const places = [
  ...units.map((unit) => `/etc/systemd/system/${unit}`),
  '/etc/perch/settings.env',
  '/etc/perch/secrets.env',
];
fact(
  'secret',
  places.filter((path) => readFileSync(path, 'utf8').includes(key)),
);

const shape = { memory_mb: 128, disk_mb: 1024, timeout_sec: 86_400 };
const { id } = await perch.sandboxes.create(shape, { timeoutMs: 900_000 });
const begin = 'echo kept > /dev/shm/word; nohup sleep 100000 > /dev/null 2>&1 & echo $! > /dev/shm/pid';
await perch.sandboxes.exec(id, { cmd: 'sh', args: ['-c', begin], timeout_sec: 300 });
await look('first', id);
fact('cgroup', readFileSync(`/proc/${monitors()[0]}/cgroup`, 'utf8'));

await says('systemctl', 'restart', ...units);
await look('restarted', id);
await says('systemctl', 'stop', ...units);
fact('stopped', { monitors: monitors(), daemons: daemons() });
await says('systemctl', 'start', ...units);
await look('started', id);
fact('again', await installed());
fact('changed', await installed({ PERCH_LOG_LEVEL: 'debug' }));
await look('replaced', id);
for (const unit of units) process.kill(Number(await property(unit, 'MainPID')), 'SIGKILL');
while (
  (await activity()).some((state) => state !== 'active') ||
  (await property(units[0], 'NRestarts')) === '0'
)
  await sleep(500);
await look('killed', id);

fact('up', await refusal(() => up(settings, () => {})));
fact('refused', await refusal(() => installed({ PERCH_SLOT_POOL: 'many' })));
fact('refused.state', [await property(units[0], 'ActiveState'), await property(units[0], 'NRestarts')]);
fact('mended', await installed({ PERCH_SLOT_POOL: '' }));
await look('again after a fault', id);

fact('removal', await events((report) => uninstall(env, report)));
const left = await says('systemctl', 'list-unit-files', '--no-legend', ...units);
fact('removed', { monitors: monitors(), daemons: daemons(), units: left });
fact('removal.again', await events((report) => uninstall(env, report)));
await installed();
await down(settings, { env, keep: false, confirm: () => Promise.resolve(true), report: () => {} });
fact('down', {
  activity: await activity(),
  monitors: monitors(),
  daemons: daemons(),
  leaks: await leaks(settings),
});
facts.tell();
