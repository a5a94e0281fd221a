/** Cuts the power of a Perch at random times, lets it start again, and checks what was promised. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { entriesOf, occupied } from './disk-blocks.ts';
import { type Fate, Load } from './load.ts';
import { readInstance } from './machine.ts';
import type { PerchInstance } from './perch-instance.ts';
import type { PowerDisk } from './power.ts';
import { expectConsistent, expectNothingLeft } from './promises.ts';
import { Random } from './random.ts';
import { forget } from './reboot.ts';
import { slowness } from './slowness.ts';

/** Most plans take less. */
const cutWithinMs = 4000 * slowness;
/** A first start on a busy machine takes longer. */
const startsWithinMs = 6000 * slowness;

export class PowerCuts {
  readonly #instance: PerchInstance;
  readonly #disk: PowerDisk;
  readonly #random: Random;
  readonly #load: Load;
  /** The content of the disk before there was a sandbox. */
  readonly #before: Record<string, number>;
  /** Acknowledged pauses and snapshots that were there after a cut, whole. */
  proved = 0;

  /** @param disk holds the data directory of the instance */
  constructor(instance: PerchInstance, disk: PowerDisk, seed: number) {
    this.#instance = instance;
    this.#disk = disk;
    this.#random = new Random(seed);
    this.#before = occupied(entriesOf(instance.dataDir));
    this.#load = new Load(instance.perch, this.#random);
  }

  get history(): readonly string[] {
    return this.#load.history;
  }

  /** While Perch starts, wherever it stands. It starts again afterwards. */
  async duringStart(): Promise<void> {
    const delayMs = this.#random.whole(0, startsWithinMs);
    const starting = this.#instance.up().then(
      () => 'had started',
      () => 'was starting',
    );
    await sleep(delayMs);
    await this.#cut();
    this.#load.note(`cut after ${delayMs} ms, when it ${await starting}`);
  }

  /** While sandboxes are asked for all there is to ask. */
  async round(): Promise<void> {
    this.#load.note('round');
    await this.#load.fill();
    const delayMs = this.#random.whole(0, cutWithinMs);
    const load = this.#load.begin();
    await sleep(delayMs);
    this.#load.note('cut');
    await this.#cut();
    // Nobody who asked before may be answered after the start.
    const checks = await Promise.all(load);
    await this.#instance.up();
    const sandboxes = await expectConsistent(this.#instance);
    for (const check of checks) check(sandboxes, withoutMachine);
    await this.#load.takeStock(sandboxes);
    expect(await this.#fsck()).toBe('All is as it was written.\n');
    this.proved += await this.#load.wakeAll();
  }

  /** Nothing is left. */
  async finish(): Promise<void> {
    await this.#load.destroyAll();
    await expectNothingLeft(this.#instance, this.#before);
  }

  /** Its output, also when something is wrong. */
  #fsck(): Promise<string> {
    return this.#instance.run('fsck').catch((error: { stdout?: string }) => error.stdout || `${error}`);
  }

  /** Acknowledged states are on the disk: whoever is cut off later has no answer. */
  async #cut(): Promise<void> {
    const { dataDir } = this.#instance;
    const instance = instanceOf(dataDir);
    await this.#disk.cut();
    await this.#instance.killLauncher();
    await forget(dataDir, instance);
    await this.#disk.restore();
  }
}

/** A virtual machine does not outlive the power; a state that was written does. */
const withoutMachine: Fate = (_id, led) => led.map((outcome) => (outcome === 'running' ? 'failed' : outcome));

/** Undefined in a first start that has not come so far. */
function instanceOf(dataDir: string): string | undefined {
  try {
    return readInstance(dataDir) || undefined;
  } catch {
    return undefined;
  }
}
