import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { newApiKey, type Sandbox } from '@perch/protocol';
import { pino } from 'pino';
import { type Config, readConfig } from '../config/index.ts';
import { type ControlPlane, startControlPlane } from '../control-plane.ts';
import type { Connect, GuestAddress } from '../guests/index.ts';
import { FakeHost } from './fake-host.ts';
import { LocalGuest } from './local-guest.ts';
import { readablePrograms } from './postgres-programs.ts';

export { FakeHost, LocalGuest };

/** perchd with its database, on a fake host whose sandboxes are directories of this machine. */
export class TestPlane implements AsyncDisposable {
  readonly dir: string;
  readonly host: FakeHost;
  readonly key = newApiKey();
  readonly config: Config;
  /** By sandbox id. */
  readonly guests = new Map<string, LocalGuest>();
  readonly logLines: string[] = [];
  /** Every connection to a guest, in order. */
  readonly connections: GuestAddress[] = [];
  #connect: Connect = (address) => {
    const { sandboxId } = address;
    this.connections.push(address);
    const known = this.guests.get(sandboxId);
    const guest = known && !known.closed ? known : new LocalGuest(join(this.dir, sandboxId));
    this.guests.set(sandboxId, guest);
    return guest.asGuest();
  };
  #plane: ControlPlane | undefined;
  readonly #stack: AsyncDisposableStack;

  private constructor(dir: string, stack: AsyncDisposableStack, env: NodeJS.ProcessEnv) {
    this.dir = dir;
    this.#stack = stack;
    this.config = readConfig({
      PERCH_DATA_DIR: dir,
      PERCH_LISTEN: '127.0.0.1:0',
      PERCH_API_KEY: this.key,
      ...env,
    });
    this.host = new FakeHost(this.config.hosts[0].socket);
  }

  /** With `connect`, guests are what it connects to, instead of directories. @param guestPort of their agents */
  static async start(env: NodeJS.ProcessEnv = {}, connect?: Connect, guestPort?: number): Promise<TestPlane> {
    await using starting = new AsyncDisposableStack();
    const stack = starting.use(new AsyncDisposableStack());
    const dir = await mkdtemp(join(tmpdir(), 'perch-test-'));
    stack.defer(() => rm(dir, { recursive: true, force: true, maxRetries: 5 }));
    await chmod(dir, 0o755);
    await mkdir(join(dir, 'run'));
    const programs = stack.use(await readablePrograms());
    const plane = new TestPlane(dir, stack, { PERCH_POSTGRES_DIR: programs.dir, ...env });
    if (connect) plane.#connect = connect;
    if (guestPort !== undefined) plane.config.guestPort = guestPort;
    stack.use(await plane.host.start());
    await plane.up();
    starting.move();
    return plane;
  }

  get url(): string {
    return this.#plane?.url ?? '';
  }

  get postgresPid(): number | undefined {
    return this.#plane?.postgresPid();
  }

  async up(): Promise<void> {
    const log = pino({ level: 'debug' }, { write: (line: string) => void this.logLines.push(line) });
    this.#plane = await startControlPlane(this.config, log, this.#connect);
  }

  async down(): Promise<void> {
    await this.#plane?.[Symbol.asyncDispose]();
    this.#plane = undefined;
  }

  fetch(path: string, init: RequestInit & { json?: unknown } = {}): Promise<Response> {
    const { json, ...rest } = init;
    return fetch(`${this.url}${path}`, {
      ...rest,
      headers: {
        'x-api-key': this.key,
        ...(json === undefined ? {} : { 'content-type': 'application/json' }),
        ...(rest.headers as Record<string, string> | undefined),
      },
      ...(json === undefined ? {} : { method: init.method ?? 'POST', body: JSON.stringify(json) }),
    });
  }

  async create(body: object = {}): Promise<Sandbox> {
    const answer = await this.fetch('/v1/sandboxes', { json: body });
    if (answer.status !== 201) throw new Error(await answer.text());
    const sandbox = (await answer.json()) as Sandbox;
    await mkdir(join(this.dir, sandbox.id));
    return sandbox;
  }

  async get(id: string): Promise<Sandbox> {
    return (await (await this.fetch(`/v1/sandboxes/${id}`)).json()) as Sandbox;
  }

  /** Pauses or resumes. */
  transition(
    id: string,
    what: 'pause' | 'resume',
    init: RequestInit & { json?: unknown } = {},
  ): Promise<Response> {
    return this.fetch(`/v1/sandboxes/${id}/${what}`, { method: 'POST', ...init });
  }

  /** Has its time end so many seconds from now, or after its last use. */
  async endAfter(id: string, timeout_sec: number): Promise<void> {
    const answer = await this.fetch(`/v1/sandboxes/${id}/timeout`, { json: { timeout_sec } });
    if (answer.status !== 200) throw new Error(await answer.text());
  }

  async paused(body: object = {}): Promise<Sandbox> {
    const sandbox = await this.create(body);
    const answer = await this.transition(sandbox.id, 'pause');
    if (answer.status !== 200) throw new Error(await answer.text());
    return sandbox;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down();
    for (const guest of this.guests.values()) guest.die();
    await this.#stack.disposeAsync();
  }
}

/** Waits until `check` gives something, for at most `ms`. */
export async function eventually<T>(
  check: () => Promise<T | undefined | false> | T | undefined | false,
  ms = 30_000,
): Promise<T> {
  const deadline = Date.now() + ms;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms`);
    await sleep(20);
  }
}

/** Waits until a figure is the same 200 ms later. */
export async function standsStill(figure: () => number): Promise<void> {
  await eventually(async () => {
    const before = figure();
    await sleep(200);
    return figure() === before;
  });
}
