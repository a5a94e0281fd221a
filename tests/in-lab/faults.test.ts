/**
 * Faults of a Perch on disks of device-mapper, in the lab: the host agent ends wherever a disk is made, or under
 * Firecracker wherever the life of a sandbox can end; any process ends at any moment; the power goes. One Perch for all
 * of it, since each start takes the lab minutes.
 */
import { statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { failpoints } from '../../apps/host-agent/src/failpoints/index.ts';
import { dmNames } from '../../apps/host-agent/src/linux/index.ts';
import { Chaos } from '../setup/chaos.ts';
import { PowerDisk } from '../setup/power.ts';
import { PowerCuts } from '../setup/power-cuts.ts';
import { Scene } from '../setup/scene.ts';
import { proveEndAt } from '../setup/trials.ts';

const kills = Number(process.env.PERCH_CHAOS_KILLS || 10);
const cuts = Number(process.env.PERCH_POWER_CUTS || 1);
const seed = Number(process.env.PERCH_CHAOS_SEED || 1);
/** Those that a kind of disk or monitor has a part in. All others are the same on each, and seen on any machine. */
const operations =
  process.env.PERCH_VMM === 'firecracker' ? /^(monitor|pause|resume|fork|copy|undo|destroy)\./ : /^disk\./;
const places = failpoints.filter((name) => operations.test(name));
/** linux/magic.h: XFS_SUPER_MAGIC */
const xfs = 0x58465342;
const type = statfsSync(tmpdir()).type === xfs ? 'xfs' : 'ext4';

let disk: PowerDisk;
let scene: Scene;
const devices = () => dmNames().filter((name) => name.startsWith(`perch-${scene.instance.instance}-`));

beforeAll(async () => {
  disk = await PowerDisk.make({ type });
  scene = await Scene.start(84, {}, join(disk.path, 'perch'));
});

afterAll(async () => {
  await scene?.[Symbol.asyncDispose]();
  await disk?.[Symbol.asyncDispose]();
});

test('each sandbox that runs has a device', () => {
  expect(devices().filter((name) => !name.includes('-base.'))).toHaveLength(1);
});

test.each(places)('the host agent may end at %s', (name) => proveEndAt(name, scene));

test('what ran through all of them is whole, and nothing is left of it', async () => {
  await scene.expectOthersWhole();
  await scene.destroyAll();
  expect(devices()).toEqual([]);
});

test(`${kills} kills under load break no promise (PERCH_CHAOS_SEED=${seed})`, async () => {
  const chaos = new Chaos(scene.instance, seed);
  try {
    while (chaos.kills < kills) await chaos.round();
    await chaos.finish();
  } catch (cause) {
    throw new Error(`${cause}\n${chaos.history.slice(-80).join('\n')}`, { cause });
  }
  expect(devices()).toEqual([]);
});

test(`${cuts} power cuts under load break no promise (PERCH_CHAOS_SEED=${seed})`, async () => {
  const power = new PowerCuts(scene.instance, disk, seed);
  try {
    for (let cut = 0; cut < cuts; cut++) await power.round();
    await power.finish();
  } catch (cause) {
    throw new Error(`${cause}\n${power.history.slice(-80).join('\n')}`, { cause });
  }
  expect(devices()).toEqual([]);
});
