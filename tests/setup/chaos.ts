/**
 * Kills at random times under load, in rounds: every sandbox is asked for something, processes are ended
 * meanwhile, and when all has come to rest the promises are checked.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import type { CreateSandbox, Sandbox } from '../../packages/protocol/src/index.ts';
import type { Perch } from '../../packages/sdk/src/index.ts';
import type { PerchInstance } from './perch-instance.ts';
import { expectConsistent } from './promises.ts';
import { Random } from './random.ts';
import { kill, type Victim } from './victims.ts';
import { Witness } from './witness.ts';

const small: CreateSandbox = { memory_mb: 128, disk_mb: 1024, timeout_sec: 24 * 3600 };
const population = 4;
/** Most calls take less. */
const killWithinMs = 1500;
const mostKillsARound = 4;
/** The host agent has the most to lose. */
const victims: Victim[] = ['perch-host', 'perch-host', 'perchd', 'postgres', 'monitor', 'helper'];

type Rest = 'running' | 'paused';
type Call = 'pause' | 'resume' | 'change' | 'exec' | 'destroy' | 'snapshot' | 'fork';

interface Member {
  witness: Witness;
  status: Rest;
}

/** What a sandbox is asked for, one after the other. */
const plans: Record<Rest, Call[][]> = {
  running: [
    ['pause'],
    ['pause', 'resume'],
    ['change', 'pause'],
    ['exec', 'pause', 'resume', 'exec'],
    ['change', 'exec'],
    ['snapshot', 'exec'],
    ['fork', 'pause'],
    ['destroy'],
  ],
  paused: [['resume'], ['resume', 'exec'], ['resume', 'change', 'pause'], ['resume', 'pause', 'resume']],
};
const leadsTo: Partial<Record<Call, Rest | 'gone'>> = { pause: 'paused', resume: 'running', destroy: 'gone' };

/** Holds what was answered against what there is; `hit` are the sandboxes whose monitors were killed. */
type Check = (sandboxes: ReadonlyMap<string, Sandbox>, hit: ReadonlySet<string>) => void;

export class Chaos {
  readonly #instance: PerchInstance;
  readonly #perch: Perch;
  readonly #random: Random;
  readonly #members = new Map<string, Member>();
  /** Created, acknowledged, and not a member yet. */
  readonly #created = new Set<string>();
  /** Names of snapshots that were acknowledged. */
  readonly #snapshots = new Set<string>();
  /** What was done, for the message of a failure. */
  readonly history: string[] = [];
  /** How many processes were ended, by kind. */
  readonly killed = new Map<Victim, number>();

  constructor(instance: PerchInstance, seed: number) {
    this.#instance = instance;
    this.#perch = instance.perch;
    this.#random = new Random(seed);
  }

  get kills(): number {
    return [...this.killed.values()].reduce((sum, count) => sum + count, 0);
  }

  async round(): Promise<void> {
    const random = this.#random;
    this.history.push('round');
    // All is drawn before anything happens, so that no clock decides what is drawn next.
    const attacks = Array.from({ length: random.whole(1, mostKillsARound) }, () => ({
      victim: random.pick(victims),
      delayMs: random.whole(0, killWithinMs),
      choice: random.next(),
    }));
    const load = [...this.#members.values()].map((one) => this.#ask(one, random.pick(plans[one.status])));
    while (load.length < population) load.push(this.#create());
    const hit = await Promise.all(attacks.map((attack) => this.#attack(attack)));
    const checks = await Promise.all(load);
    const sandboxes = await expectConsistent(this.#instance);
    for (const check of checks) check(sandboxes, new Set(hit.filter((id) => id !== undefined)));
    await this.#takeStock(sandboxes);
  }

  /** Wakes what sleeps: each pause and snapshot that was acknowledged is put to the proof. Nothing is left. */
  async finish(): Promise<void> {
    const { sandboxes, snapshots } = this.#perch;
    for (const { name } of await snapshots.list('snapshot')) {
      const { id } = await sandboxes.create({ template: name });
      expect((await sandboxes.exec(id, { cmd: 'true' })).exit_code).toBe(0);
      await sandboxes.delete(id);
      await snapshots.delete(name);
    }
    for (const { witness, status } of this.#members.values()) {
      if (status === 'paused') await this.#perch.sandboxes.resume(witness.id);
      await witness.expectWhole();
      await this.#perch.sandboxes.delete(witness.id);
    }
    expect([...(await expectConsistent(this.#instance)).keys()]).toEqual([]);
  }

  /** @returns the sandbox whose monitor was ended */
  async #attack(attack: { victim: Victim; delayMs: number; choice: number }): Promise<string | undefined> {
    const { victim, delayMs, choice } = attack;
    await sleep(delayMs);
    const killed = await kill(victim, this.#instance.dataDir, choice);
    this.#note(killed ? `kill ${victim} ${killed.which ?? ''}` : `no ${victim} to kill`);
    if (!killed) return undefined;
    this.killed.set(victim, (this.killed.get(victim) ?? 0) + 1);
    return victim === 'monitor' ? killed.which : undefined;
  }

  /** A call that was answered well has done its work; of one that was not, nobody knows. */
  async #ask({ witness, status }: Member, calls: Call[]): Promise<Check> {
    const { id } = witness;
    let known: Rest | 'gone' = status;
    const possible = new Set<string>();
    for (const call of calls) {
      const after: Rest | 'gone' = leadsTo[call] ?? known;
      try {
        await this.#call(witness, call);
        known = after;
        this.#note(`${id} ${call}: done`);
      } catch (error) {
        this.#note(`${id} ${call}: ${error instanceof Error ? error.message : error}`);
        possible.add(after);
        break;
      }
    }
    possible.add(known);
    return (sandboxes, hit) => {
      if (hit.has(id)) possible.add('failed');
      const { status: now = 'gone', reason } = sandboxes.get(id) ?? {};
      expect([...possible], `${id} is ${now}. ${reason ?? ''}`).toContain(now);
    };
  }

  async #call(witness: Witness, call: Call): Promise<void> {
    const { sandboxes } = this.#perch;
    const { id } = witness;
    if (call === 'pause') await sandboxes.pause(id);
    else if (call === 'resume') await sandboxes.resume(id);
    else if (call === 'destroy') await sandboxes.delete(id);
    else if (call === 'change') await witness.change();
    else if (call === 'snapshot') await this.#snapshot(id);
    else if (call === 'fork') await this.#fork(witness);
    else await sandboxes.exec(id, { cmd: 'true', timeout_sec: 30 });
  }

  async #snapshot(id: string): Promise<void> {
    const { name } = await this.#perch.snapshots.create({ sandbox_id: id, name: id }, { overwrite: true });
    this.#snapshots.add(name);
  }

  /** A child that is acknowledged has what its source has. One that is not is nobody's. */
  async #fork(witness: Witness): Promise<void> {
    const { results } = await this.#perch.sandboxes.fork(witness.id);
    for (const result of results) {
      if ('error' in result) throw new Error(result.error.message);
      await witness.expectWholeIn(result.sandbox.id);
      await this.#perch.sandboxes.delete(result.sandbox.id);
    }
  }

  async #create(): Promise<Check> {
    try {
      const { id } = await this.#perch.sandboxes.create(small);
      this.#note(`${id} create: done`);
      this.#created.add(id);
      return (sandboxes, hit) => {
        const { status = 'gone' } = sandboxes.get(id) ?? {};
        expect(hit.has(id) ? ['running', 'failed'] : ['running'], id).toContain(status);
      };
    } catch (error) {
      this.#note(`create: ${error instanceof Error ? error.message : error}`);
      return () => {};
    }
  }

  /** Checks the data of all that run, and begins the next round with those that are as they should be. */
  async #takeStock(sandboxes: ReadonlyMap<string, Sandbox>): Promise<void> {
    for (const id of this.#members.keys()) if (!sandboxes.has(id)) this.#members.delete(id);
    const each = [...sandboxes.values()].map(async ({ id, status }) => {
      const member = this.#members.get(id);
      if (member && status === 'running') await member.witness.expectWhole();
      if (member && status !== 'failed') member.status = status === 'running' ? 'running' : 'paused';
      else if (this.#created.has(id) && status === 'running') {
        this.#members.set(id, { witness: await Witness.place(this.#perch, id), status });
      } else {
        this.#members.delete(id);
        await this.#perch.sandboxes.delete(id);
      }
    });
    await Promise.all(each);
    this.#created.clear();
    const names = (await this.#perch.snapshots.list('snapshot')).map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining([...this.#snapshots]));
  }

  #note(what: string): void {
    this.history.push(what);
  }
}
