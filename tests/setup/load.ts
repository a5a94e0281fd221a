/**
 * A few sandboxes that are asked for something all the time, and what must have become of each: a call that was
 * answered well has done its work; of one that was not, nobody knows.
 */
import { expect } from 'vitest';
import type { CreateSandbox, Sandbox } from '../../packages/protocol/src/index.ts';
import type { Perch } from '../../packages/sdk/src/index.ts';
import type { Random } from './random.ts';
import { Witness } from './witness.ts';

const small: CreateSandbox = { memory_mb: 128, disk_mb: 1024, timeout_sec: 24 * 3600 };
const population = 4;

type Rest = 'running' | 'paused';
type Call = 'pause' | 'resume' | 'change' | 'exec' | 'destroy' | 'snapshot' | 'fork' | 'moveOn';
export type Outcome = Rest | 'failed' | 'gone';

interface Member {
  witness: Witness;
  status: Rest;
}

/** The calls to a sandbox, one after the other. */
const plans: Record<Rest, Call[][]> = {
  running: [
    ['pause'],
    ['pause', 'resume'],
    ['change', 'pause'],
    ['exec', 'pause', 'resume', 'exec'],
    ['change', 'exec'],
    ['snapshot', 'exec'],
    ['fork', 'pause'],
    ['change', 'moveOn'],
    ['destroy'],
  ],
  paused: [['resume'], ['resume', 'exec'], ['resume', 'change', 'pause'], ['resume', 'pause', 'resume']],
};
const leadsTo: Partial<Record<Call, Rest | 'gone'>> = {
  pause: 'paused',
  resume: 'running',
  destroy: 'gone',
  moveOn: 'gone',
};

/** The possible outcomes of a sandbox, given what its calls have led to, and what befell it. */
export type Fate = (id: string, led: readonly Outcome[]) => Outcome[];

/** Holds what was answered against what there is. */
export type Check = (sandboxes: ReadonlyMap<string, Sandbox>, fate: Fate) => void;

export class Load {
  readonly #perch: Perch;
  readonly #random: Random;
  readonly #members = new Map<string, Member>();
  /** Created, acknowledged, and not a member yet. */
  readonly #created = new Set<string>();
  /** Children whose pause was acknowledged in this round. */
  readonly #paused = new Set<string>();
  /** Snapshots that were acknowledged; what they hold is unknown while they are being replaced. */
  readonly #snapshots = new Map<string, Witness | undefined>();
  /** The acts so far, for the message of a failure. */
  readonly history: string[] = [];

  constructor(perch: Perch, random: Random) {
    this.#perch = perch;
    this.#random = random;
  }

  /** Makes what is missing, while nothing befalls it. */
  async fill(): Promise<void> {
    while (this.#members.size < population) {
      const { id } = await this.#perch.sandboxes.create(small);
      this.#members.set(id, { witness: await Witness.place(this.#perch, id), status: 'running' });
    }
  }

  /** Asks each for something. All is drawn at once, so that no clock decides what is drawn next. */
  begin(): Promise<Check>[] {
    const load = [...this.#members.values()].map((one) =>
      this.#ask(one, this.#random.pick(plans[one.status])),
    );
    while (load.length < population) load.push(this.#create());
    return load;
  }

  /** Checks the data of all that run, and goes on with those that are as they should be. */
  async takeStock(sandboxes: ReadonlyMap<string, Sandbox>): Promise<void> {
    for (const id of this.#paused) expectOutcome(sandboxes, id, ['paused']);
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
    this.#paused.clear();
    expect(await this.#snapshotNames()).toEqual(expect.arrayContaining([...this.#snapshots.keys()]));
  }

  async #snapshotNames(): Promise<string[]> {
    const names: string[] = [];
    for await (const { name } of this.#perch.snapshots.all({ type: 'snapshot' })) names.push(name);
    return names;
  }

  /** Puts each pause and snapshot that was acknowledged to the proof. The snapshots go. @returns how many */
  async wakeAll(): Promise<number> {
    const { sandboxes, snapshots } = this.#perch;
    let proved = this.#snapshots.size;
    for (const name of await this.#snapshotNames()) {
      const { id } = await sandboxes.create({ template: name });
      expect((await sandboxes.exec(id, { cmd: 'true' })).exit_code).toBe(0);
      await this.#snapshots.get(name)?.in(id).expectWhole();
      await sandboxes.delete(id);
      await snapshots.delete(name);
    }
    this.#snapshots.clear();
    for (const member of this.#members.values()) {
      if (member.status === 'paused') {
        await sandboxes.resume(member.witness.id);
        proved++;
      }
      member.status = 'running';
      await member.witness.expectWhole();
    }
    return proved;
  }

  async destroyAll(): Promise<void> {
    for (const id of this.#members.keys()) await this.#perch.sandboxes.delete(id);
    this.#members.clear();
  }

  note(what: string): void {
    this.history.push(what);
  }

  async #ask({ witness, status }: Member, calls: Call[]): Promise<Check> {
    const { id } = witness;
    let known: Rest | 'gone' = status;
    const led = new Set<Outcome>();
    for (const call of calls) {
      const after: Rest | 'gone' = leadsTo[call] ?? known;
      try {
        await this.#call(witness, call);
        known = after;
        this.note(`${id} ${call}: done`);
      } catch (error) {
        this.note(`${id} ${call}: ${error instanceof Error ? error.message : error}`);
        led.add(after);
        break;
      }
    }
    led.add(known);
    return (sandboxes, fate) => expectOutcome(sandboxes, id, fate(id, [...led]));
  }

  async #call(witness: Witness, call: Call): Promise<void> {
    const { sandboxes } = this.#perch;
    const { id } = witness;
    if (call === 'pause') await sandboxes.pause(id);
    else if (call === 'resume') await sandboxes.resume(id);
    else if (call === 'destroy') await sandboxes.delete(id);
    else if (call === 'change') await witness.change();
    else if (call === 'snapshot') await this.#snapshot(witness);
    else if (call === 'fork') for (const child of await this.#fork(witness)) await sandboxes.delete(child.id);
    else if (call === 'moveOn') await this.#moveOn(witness);
    else await sandboxes.exec(id, { cmd: 'true', timeout_sec: 30 });
  }

  async #snapshot(witness: Witness): Promise<void> {
    const { id } = witness;
    if (this.#snapshots.has(id)) this.#snapshots.set(id, undefined);
    const { name } = await this.#perch.snapshots.create({ sandbox_id: id, name: id }, { overwrite: true });
    this.#snapshots.set(name, witness.in(id));
  }

  /** A child that is acknowledged has what its source has. A child that is not is nobody's. */
  async #fork(witness: Witness): Promise<Witness[]> {
    const { results } = await this.#perch.sandboxes.fork(witness.id);
    const children = results.map((result) => {
      if ('error' in result) throw new Error(result.error.message);
      return witness.in(result.sandbox.id);
    });
    for (const child of children) await child.expectWhole();
    return children;
  }

  /** A child takes the place of its source as soon as it was paused. */
  async #moveOn(witness: Witness): Promise<void> {
    for (const child of await this.#fork(witness)) {
      await this.#perch.sandboxes.pause(child.id);
      this.#members.set(child.id, { witness: child, status: 'paused' });
      this.#paused.add(child.id);
    }
    await this.#perch.sandboxes.delete(witness.id);
  }

  async #create(): Promise<Check> {
    try {
      const { id } = await this.#perch.sandboxes.create(small);
      this.note(`${id} create: done`);
      this.#created.add(id);
      return (sandboxes, fate) => expectOutcome(sandboxes, id, fate(id, ['running']));
    } catch (error) {
      this.note(`create: ${error instanceof Error ? error.message : error}`);
      return () => {};
    }
  }
}

function expectOutcome(sandboxes: ReadonlyMap<string, Sandbox>, id: string, possible: Outcome[]): void {
  const { status = 'gone', reason } = sandboxes.get(id) ?? {};
  expect(possible, `${id} is ${status}. ${reason ?? ''}`).toContain(status);
}
