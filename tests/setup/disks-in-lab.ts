/** The life of sandboxes on disks of device-mapper, under KVM, in the lab. Takes the values of PERCH_ROOTFS and PERCH_VMM; `auto`: none. */
import { closeSync, openSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { down, leaks, type UpEvent, up } from '../../apps/cli/src/launcher/index.ts';
import { dmNames, dmTargets } from '../../apps/host-agent/src/linux/index.ts';
import { newApiKey, PerchError, readSettings } from '../../packages/protocol/src/index.ts';
import { Perch } from '../../packages/sdk/src/index.ts';
import { viewOf } from './jail.ts';
import { endWithLabAtAnyTime } from './lab-end.ts';
import { LabFacts } from './lab-facts.ts';
import { monitors, vmsDir } from './machine.ts';

const shape = { memory_mb: 128, disk_mb: 1024, timeout_sec: 86_400 };
const slow = { timeoutMs: 900_000 };
const facts = new LabFacts();
const fact = facts.add.bind(facts);

endWithLabAtAnyTime();
const [rootfs = 'auto', vmm = 'qemu-kvm'] = process.argv.slice(2);
const key = newApiKey();
const { env } = process;
Object.assign(env, {
  ...{ PERCH_DATA_DIR: join(tmpdir(), 'perch'), PERCH_API_KEY: key, PERCH_ROOTFS: rootfs },
  ...{ PERCH_READY: '0', PERCH_SLOT_POOL: '1' },
  // The probe gives QEMU's KVM less time than a guest takes here.
  PERCH_VMM: vmm,
});
if (vmm === 'auto') delete env.PERCH_VMM;
const settings = readSettings(env);
const ready = Promise.withResolvers<Extract<UpEvent, { event: 'ready' }>>();
const over = up(settings, (event) => {
  if (event.event === 'step') fact(event.name, event.ms);
  if (event.event === 'ready') ready.resolve(event);
});
over.catch(ready.reject);
const { instance, pids } = await ready.promise;
const { sandboxes, snapshots, hosts } = new Perch({ url: `http://${settings.listen}`, apiKey: key });
const prefix = `perch-${instance}-`;

/** Devices of this Perch: of sandboxes, and of images. */
function devices() {
  const names = dmNames().flatMap((name) => (name.startsWith(prefix) ? [name.slice(prefix.length)] : []));
  const bases = names.filter((name) => name.startsWith('base.'));
  const loops = bases.map((name) => dmTargets(`${prefix}${name}`, 'table')?.[0]?.params.split(' ')[0]);
  return { disks: names.length - bases.length, bases: bases.length, loops: new Set(loops).size };
}

async function sh(id: string, script: string): Promise<string> {
  return (await sandboxes.exec(id, { cmd: 'sh', args: ['-c', script], timeout_sec: 300 }, slow)).stdout;
}

const kept = 'cat /dev/shm/word ~/word; sha256sum ~/random | cut -d" " -f1';

const monitor = (await hosts.list()).map(({ disk, vmm }) => ({ disk, vmm }));
fact('host', monitor);
const { id } = await sandboxes.create(shape, slow);
fact('created', { devices: devices(), root: await sh(id, 'df -k --output=size / | tail -1') });
for (const pid of monitors(settings.dataDir).values())
  if (monitor[0]?.vmm.startsWith('firecracker')) fact('jail', viewOf(pid));
await sh(
  id,
  'echo memory > /dev/shm/word; echo disk > ~/word; head -c 20000000 /dev/urandom > ~/random; sync',
);
const before = await sh(id, kept);
fact('word', before.split('\n').slice(0, 2));
fact('pause', (await sandboxes.pause(id, slow)).timings_ms);
fact('paused', devices());
fact('kept', (await sandboxes.history(id)).own_bytes);
fact('resume', (await sandboxes.resume(id, slow)).timings_ms);
fact('resumed', { devices: devices(), same: (await sh(id, kept)) === before });

const isReady = async () => (await hosts.list()).every(({ status }) => status === 'ready');
const hostAgent = pids['perch-host'];
if (hostAgent === undefined) throw new Error('perch-host runs, and has no pid');
process.kill(hostAgent, 'SIGKILL');
while (await isReady()) await sleep(100);
while (!(await isReady())) await sleep(500);
fact('adopted', { devices: devices(), same: (await sh(id, kept)) === before });

fact('snapshot', (await snapshots.create({ name: 'kept', sandbox_id: id }, slow)).timings_ms);
await sh(id, 'echo changed > ~/word; rm ~/random; sync');
const { results, timings_ms } = await sandboxes.fork(id, { count: 2 }, slow);
const children = results.map((result) => {
  if ('sandbox' in result) return result.sandbox.id;
  throw PerchError.fromBody(result);
});
fact('fork', timings_ms);
fact('forked', {
  devices: devices(),
  words: await Promise.all(children.map((child) => sh(child, 'cat /dev/shm/word ~/word'))),
});
fact(
  'history',
  (await sandboxes.history(id)).items.map(({ own_bytes, shared_bytes }) => ({ own_bytes, shared_bytes })),
);
for (const child of children) await sandboxes.delete(child);

const second = await sandboxes.create({ template: 'kept', timeout_sec: 86_400 }, slow);
fact('from snapshot', { devices: devices(), same: (await sh(second.id, kept)) === before });
await sandboxes.delete(second.id);
fact('flattened', (await snapshots.flatten('kept', slow)).standalone);
const third = await sandboxes.create({ template: 'kept', timeout_sec: 86_400 }, slow);
fact('from flattened', { devices: devices(), same: (await sh(third.id, kept)) === before });
await sandboxes.delete(third.id);

const held = openSync(`${vmsDir(settings.dataDir)}/${id}/rootfs`, 'r');
const pause = await sandboxes.pause(id, slow).then(
  ({ status }) => status,
  (error: unknown) => (error as PerchError).message,
);
fact('held', { pause, devices: devices(), status: (await sandboxes.get(id)).status });
closeSync(held);
while ((await sandboxes.get(id)).status === 'pausing') await sleep(500);
fact('let go', { devices: devices(), status: (await sandboxes.get(id)).status });
await sandboxes.resume(id, slow);
fact('resumed again', await sh(id, 'cat /dev/shm/word ~/word'));
await sandboxes.delete(id);
await snapshots.delete('kept');
fact('destroyed', devices());
await down(settings, { env, keep: false, confirm: () => Promise.resolve(true), report: () => {} });
await over;
fact('down', { devices: devices(), leaks: await leaks(settings) });
facts.tell();
