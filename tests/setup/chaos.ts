/**
 * Kills at random times under load, in rounds: every sandbox is asked for something, processes are ended
 * meanwhile, and when all has come to rest the promises are checked.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { entriesOf, occupied } from './disk-blocks.ts';
import { type Fate, Load } from './load.ts';
import type { PerchInstance } from './perch-instance.ts';
import { expectConsistent, expectNothingLeft } from './promises.ts';
import { Random } from './random.ts';
import { slowness } from './slowness.ts';
import { kill, type Victim } from './victims.ts';

/** Most calls take less. */
const killWithinMs = 1500 * slowness;
const mostKillsARound = 4;
/** The host agent has the most to lose. */
const victims: Victim[] = ['perch-host', 'perch-host', 'perchd', 'postgres', 'monitor', 'helper'];

export class Chaos {
  readonly #instance: PerchInstance;
  readonly #random: Random;
  readonly #load: Load;
  /** The content of the disk before there was a sandbox. */
  readonly #before: Record<string, number>;
  /** How many processes were ended, by kind. */
  readonly killed = new Map<Victim, number>();

  constructor(instance: PerchInstance, seed: number) {
    this.#instance = instance;
    this.#random = new Random(seed);
    this.#before = occupied(entriesOf(instance.dataDir));
    this.#load = new Load(instance.perch, this.#random);
  }

  get kills(): number {
    return [...this.killed.values()].reduce((sum, count) => sum + count, 0);
  }

  get history(): readonly string[] {
    return this.#load.history;
  }

  async round(): Promise<void> {
    const random = this.#random;
    this.#load.note('round');
    // All is drawn before anything happens, so that no clock decides what is drawn next.
    const attacks = Array.from({ length: random.whole(1, mostKillsARound) }, () => ({
      victim: random.pick(victims),
      delayMs: random.whole(0, killWithinMs),
      choice: random.next(),
    }));
    const load = this.#load.begin();
    const hit = await Promise.all(attacks.map((attack) => this.#attack(attack)));
    const fate: Fate = (id, led) => (hit.includes(id) ? [...led, 'failed'] : [...led]);
    const checks = await Promise.all(load);
    const sandboxes = await expectConsistent(this.#instance);
    for (const check of checks) check(sandboxes, fate);
    await this.#load.takeStock(sandboxes);
  }

  /** Wakes what sleeps. Nothing is left. */
  async finish(): Promise<void> {
    await this.#load.wakeAll();
    await this.#load.destroyAll();
    await expectNothingLeft(this.#instance, this.#before);
  }

  /** @returns the sandbox whose monitor was ended */
  async #attack(attack: { victim: Victim; delayMs: number; choice: number }): Promise<string | undefined> {
    const { victim, delayMs, choice } = attack;
    await sleep(delayMs);
    const killed = await kill(victim, this.#instance.dataDir, choice);
    this.#load.note(killed ? `kill ${victim} ${killed.which ?? ''}` : `no ${victim} to kill`);
    if (!killed) return undefined;
    this.killed.set(victim, (this.killed.get(victim) ?? 0) + 1);
    return victim === 'monitor' ? killed.which : undefined;
  }
}
