/** A Perch whose daemons can be ended or held at named places, and the sandboxes that this is tried on. */
import { readdirSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Failpoint as ControlFailpoint } from '../../apps/control-plane/src/failpoints/index.ts';
import type { Failpoint } from '../../apps/host-agent/src/failpoints/index.ts';
import type { CreateSandbox, Sandbox } from '../../packages/protocol/src/index.ts';
import { type Answer, Armed } from './armed.ts';
import { entriesOf, occupied } from './disk-blocks.ts';
import { monitorOf } from './machine.ts';
import { PerchInstance } from './perch-instance.ts';
import { expectConsistent, expectNothingLeft } from './promises.ts';
import { Witness } from './witness.ts';

export type Outcome = 'running' | 'paused' | 'failed' | 'gone';

export const small: CreateSandbox = { memory_mb: 128, disk_mb: 1024, timeout_sec: 3600 };
/** A snapshot that is replaced again and again. */
export const kept = 'kept';
/** A snapshot of the running sandbox, that some trials make and others remove. */
export const passing = 'passing';
/** Shapes of which a booted guest is kept. */
export const bootSnapshots = 2;
/** Layers of a disk beyond which they are merged. */
export const mergeLayers = 3;

export class Scene implements AsyncDisposable {
  readonly instance: PerchInstance;
  /** Of the host agent. */
  readonly armed: Armed<Failpoint>;
  /** Of perchd. */
  readonly armedControl: Armed<ControlFailpoint>;
  /** A directory for what is imported. */
  readonly outside: string;
  /** The boot snapshot of `small`. */
  readonly bootSnapshot: string;
  /** Nobody asks anything of these two. */
  readonly #running: Witness;
  readonly #paused: Witness;
  readonly #monitor: number;
  /** The content of the disk before there was a sandbox. */
  readonly #before: Record<string, number>;
  readonly #all: AsyncDisposableStack;
  /** The sandbox that the operations are tried on, as long as it lives. */
  #subject: Witness | undefined;

  private constructor(
    parts: Pick<Scene, 'instance' | 'armed' | 'armedControl' | 'outside' | 'bootSnapshot'> & {
      before: Record<string, number>;
      running: Witness;
      paused: Witness;
    },
    all: AsyncDisposableStack,
  ) {
    this.instance = parts.instance;
    this.armed = parts.armed;
    this.armedControl = parts.armedControl;
    this.outside = parts.outside;
    this.bootSnapshot = parts.bootSnapshot;
    this.#before = parts.before;
    this.#running = parts.running;
    this.#paused = parts.paused;
    this.#monitor = monitorOf(parts.instance.dataDir, parts.running.id);
    this.#all = all;
  }

  /**
   * @param settings beside those that are the same in all scenes
   * @param dataDir as InstanceOptions has it
   */
  static async start(
    network: number,
    settings: Record<string, string> = {},
    dataDir?: string,
  ): Promise<Scene> {
    await using all = new AsyncDisposableStack();
    const armed = all.use(await Armed.make<Failpoint>());
    const armedControl = all.use(await Armed.make<ControlFailpoint>());
    const outside = await mkdtemp(join(tmpdir(), 'perch-outside-'));
    all.defer(() => rm(outside, { recursive: true }));
    const env = {
      ...{ PERCH_FAILPOINTS: armed.file, PERCH_CONTROL_FAILPOINTS: armedControl.file },
      ...{ PERCH_GOOD_RUN_SEC: '0', PERCH_BOOT_SNAPSHOTS: `${bootSnapshots}` },
      // Each start of the host agent makes them anew, and each check waits for them.
      PERCH_SLOT_POOL: '1',
      // Only that of which many copies were taken is merged.
      ...{ PERCH_MERGE_LAYERS: `${mergeLayers}`, PERCH_MERGE_PERCENT: '100' },
      ...settings,
    };
    const where = dataDir === undefined ? {} : { dataDir };
    const instance = all.use(await PerchInstance.start({ network, env, ...where }));
    const { perch } = instance;
    const before = occupied(entriesOf(instance.dataDir));
    const create = async () => Witness.place(perch, (await perch.sandboxes.create(small)).id);
    const running = await create();
    const bootSnapshot = lastUsed(join(instance.dataDir, 'boot-snapshots'));
    const paused = await create();
    await perch.sandboxes.pause(paused.id);
    await perch.snapshots.create({ sandbox_id: running.id, name: kept });
    return new Scene(
      { instance, armed, armedControl, outside, bootSnapshot, before, running, paused },
      all.move(),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#all.disposeAsync();
  }

  /** The sandbox that nobody asks to change. */
  get runningId(): string {
    return this.#running.id;
  }

  /** Ids of the sandboxes that are there between two trials. */
  get known(): string[] {
    return [this.#running, this.#paused, ...(this.#subject ? [this.#subject] : [])].map(({ id }) => id);
  }

  async runningSubject(): Promise<Witness> {
    const { sandboxes } = this.instance.perch;
    this.#subject ??= await Witness.place(this.instance.perch, (await sandboxes.create(small)).id);
    const { id } = this.#subject;
    if ((await sandboxes.get(id)).status === 'paused') await sandboxes.resume(id);
    return this.#subject;
  }

  async pausedSubject(): Promise<Witness> {
    const subject = await this.runningSubject();
    await this.instance.perch.sandboxes.pause(subject.id);
    return subject;
  }

  /**
   * The sandbox `id`, or those that were made when there is none, are in one of these states, the subject with its
   * data, and all others are as they were. Those that were made, or have failed, go.
   */
  async expectOutcome(id: string | undefined, outcomes: readonly Outcome[], answer: Answer): Promise<void> {
    const { sandboxes: api, snapshots } = this.instance.perch;
    const sandboxes = await expectConsistent(this.instance);
    const now = this.#subject && sandboxes.get(this.#subject.id)?.status;
    if (now !== 'running' && now !== 'paused') this.#subject = undefined;
    try {
      const made = this.#expectOthers(sandboxes, id, answer);
      for (const one of id === undefined ? made : [id]) expectStatus(sandboxes, one, outcomes);
      // The one of before, or the new one.
      expect(await snapshots.get(kept)).toMatchObject({ name: kept, memory_mb: small.memory_mb });
      if (this.#subject?.id === id) await (await this.runningSubject()).expectWhole();
    } finally {
      const { known } = this;
      for (const one of sandboxes.keys()) if (!known.includes(one)) await api.delete(one);
    }
  }

  /** Sandboxes that nobody touched are whole, those that were paused before go on, and the snapshot can be started. */
  async expectOthersWhole(): Promise<void> {
    const { sandboxes } = this.instance.perch;
    await this.#running.expectWhole();
    await sandboxes.resume(this.#paused.id);
    await this.#paused.expectWhole();
    await this.expectStarts(kept);
  }

  /** A sandbox of this snapshot works, if it is there. */
  async expectStarts(template: string): Promise<void> {
    const { sandboxes, snapshots } = this.instance.perch;
    if (!(await snapshots.list({ type: 'snapshot' })).items.some(({ name }) => name === template)) return;
    const { id } = await sandboxes.create({ template });
    expect((await sandboxes.exec(id, { cmd: 'true' })).exit_code).toBe(0);
    await sandboxes.delete(id);
  }

  /** Nothing is left, once everything was destroyed. */
  async destroyAll(): Promise<void> {
    const { sandboxes, snapshots } = this.instance.perch;
    for (const { id } of (await sandboxes.list()).items) await sandboxes.delete(id);
    for (const { name } of (await snapshots.list({ type: 'snapshot' })).items) await snapshots.delete(name);
    await expectNothingLeft(this.instance, this.#before);
  }

  /** @returns what there is beside the sandboxes of before and `id` */
  #expectOthers(sandboxes: ReadonlyMap<string, Sandbox>, id: string | undefined, answer: Answer): string[] {
    const others = this.known.filter((one) => one !== id);
    for (const one of others) expectStatus(sandboxes, one, [one === this.#paused.id ? 'paused' : 'running']);
    expect(monitorOf(this.instance.dataDir, this.#running.id)).toBe(this.#monitor);
    const made = [...sandboxes.keys()].filter((one) => one !== id && !others.includes(one));
    // A create that was not answered waits for its repeat.
    if ('made' in answer || id !== undefined) {
      expect(made.sort(), 'what was made').toEqual('made' in answer ? answer.made.toSorted() : []);
    }
    return made;
  }
}

/** The entry of a folder that was changed last. */
function lastUsed(folder: string): string {
  const changed = (name: string) => statSync(join(folder, name)).mtimeMs;
  return readdirSync(folder).toSorted((a, b) => changed(b) - changed(a))[0] ?? '';
}

function expectStatus(
  sandboxes: ReadonlyMap<string, Sandbox>,
  id: string,
  outcomes: readonly Outcome[],
): void {
  const { status = 'gone', reason } = sandboxes.get(id) ?? {};
  expect(outcomes, `${id} is ${status}. ${reason ?? ''}`).toContain(status);
  if (status === 'failed') expect(reason).toMatch(/VM monitor (was|is|exited)/);
}
