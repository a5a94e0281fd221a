import { mkdir, mkdtempDisposable, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { installed, localEnvironment } from './installed.ts';
import { placesBelow } from './places.ts';

async function machine(files: Record<string, string>) {
  const root = await mkdtempDisposable(join(tmpdir(), 'perch-systemd-'));
  for (const [name, text] of Object.entries(files)) {
    const path = join(root.path, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
  }
  return { places: placesBelow(root.path), [Symbol.asyncDispose]: () => root[Symbol.asyncDispose]() };
}

const unit = 'etc/systemd/system/perchd.service';
const ours = {
  [unit]: '[Unit]\nX-PerchDataDirectory="/srv/perch"\n',
  'etc/perch/settings.env': 'PERCH_NETWORK="10.20.0.0/16"\nPERCH_READY="1"\n',
};

test('a command on the machine has the settings of the units, below those of its environment', async () => {
  await using there = await machine(ours);
  expect(await localEnvironment({ PERCH_READY: '3', PERCH_NETWORK: '' }, there.places)).toEqual({
    ...{ PERCH_DATA_DIR: '/srv/perch', PERCH_NETWORK: '10.20.0.0/16', PERCH_READY: '3' },
  });
});

test('a command that names another data directory has nothing of them', async () => {
  await using there = await machine(ours);
  const env = { PERCH_DATA_DIR: '/srv/other' };
  expect(await localEnvironment(env, there.places)).toEqual(env);
});

test('settings without units count for nobody', async () => {
  await using there = await machine({ 'etc/perch/settings.env': 'PERCH_READY="1"\n' });
  expect(await installed(there.places)).toBeUndefined();
  expect(await localEnvironment({}, there.places)).toEqual({});
});

test('a unit of that name that somebody else wrote is told, and not taken for one of ours', async () => {
  await using there = await machine({ [unit]: '[Service]\nExecStart=/bin/true\n' });
  await expect(installed(there.places)).rejects.toThrow(
    `${join(there.places.units, 'perchd.service')} was not written`,
  );
  expect(await localEnvironment({}, there.places)).toEqual({});
});
