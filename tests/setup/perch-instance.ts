/** A Perch of a test's own: data directory, address, network and key that no other has. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { type Leak, leaks, type UpEvent } from '../../apps/cli/src/launcher/index.ts';
import { newApiKey, readSettings } from '../../packages/protocol/src/index.ts';
import { Perch } from '../../packages/sdk/src/index.ts';
import { plant } from './seed.ts';

export const cli = join(import.meta.dirname, '../../apps/cli/bin/perch.mjs');

export interface InstanceOptions {
  /** Second byte of the /16 that slots take their addresses from; two instances need two. */
  network: number;
  env?: Record<string, string>;
  /** Its data directory, which goes with it; one in the temporary directory when nothing is said. */
  dataDir?: string;
  /** Its first start makes all by itself, as that of one with a `dataDir` does. Others begin with the seed, if there is one. */
  fromNothing?: boolean;
}

/** Names the seed, which the setup of the tests makes. */
export const seedVariable = 'PERCH_TEST_SEED';

type Ready = Extract<UpEvent, { event: 'ready' }>;

/** Settings of whoever runs the tests: all of them are to pass with each kind of disk and each monitor. */
const passedOn = [
  ...['PERCH_CACHE', 'PERCH_ROOTFS', 'PERCH_VMM'],
  ...['PERCH_FIRECRACKER', 'PERCH_JAILER', 'PERCH_RESTORE'],
] as const;

function fromOutside(): Record<string, string> {
  return Object.fromEntries(
    passedOn.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])),
  );
}

export class PerchInstance {
  readonly dataDir: string;
  readonly env: Record<string, string>;
  readonly perch: Perch;
  readonly key: string;
  #process: ChildProcess | undefined;
  #ready: Ready | undefined;

  private constructor(dataDir: string, env: Record<string, string>, perch: Perch, key: string) {
    this.dataDir = dataDir;
    this.env = env;
    this.perch = perch;
    this.key = key;
  }

  /** Prepares one without starting it. */
  static async prepare({ network, env = {}, ...options }: InstanceOptions): Promise<PerchInstance> {
    const dataDir = options.dataDir ?? (await mkdtemp(join(tmpdir(), 'perch-e2e-')));
    const seed = process.env[seedVariable];
    if (seed !== undefined && options.dataDir === undefined && !options.fromNothing)
      await plant(seed, dataDir);
    const listen = `127.0.0.1:${await freePort()}`;
    const key = newApiKey();
    const all = {
      PATH: process.env.PATH ?? '',
      HOME: process.env.HOME ?? '/root',
      ...fromOutside(),
      PERCH_DATA_DIR: dataDir,
      PERCH_LISTEN: listen,
      PERCH_NETWORK: `10.${network}.0.0/16`,
      PERCH_API_KEY: key,
      PERCH_CONFIG: join(dataDir, 'config.json'),
      PERCH_SLOT_REST_SEC: '2',
      // The machine then has only the things of sandboxes.
      PERCH_READY: '0',
      ...env,
    };
    return new PerchInstance(dataDir, all, new Perch({ url: `http://${listen}`, apiKey: key }), key);
  }

  static async start(options: InstanceOptions): Promise<PerchInstance> {
    await using started = new AsyncDisposableStack();
    const instance = started.use(await PerchInstance.prepare(options));
    await instance.up();
    started.move();
    return instance;
  }

  get url(): string {
    return `http://${this.env.PERCH_LISTEN}`;
  }

  get instance(): string {
    return this.#expectReady().instance;
  }

  /** Pid of a daemon as it was when this Perch became ready. */
  pid(daemon: 'perch-host' | 'perchd'): number {
    const pid = this.#expectReady().pids[daemon];
    if (pid === undefined) throw new Error(`${daemon} has no pid.`);
    return pid;
  }

  /** Starts `perch up`; resolves when it is ready. @throws Error with what it printed when it ends first */
  async up(): Promise<void> {
    const child = spawn(process.execPath, [cli, 'up', '--json'], {
      env: this.env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process = child;
    let errors = '';
    child.stderr.on('data', (chunk: Buffer) => {
      errors += chunk;
    });
    const { promise, resolve, reject } = Promise.withResolvers<Ready>();
    createInterface(child.stdout).on('line', (line) => {
      const event = JSON.parse(line) as UpEvent;
      if (event.event === 'ready') resolve(event);
    });
    child.once('exit', (code) => reject(new Error(`perch up ended with ${code}: ${errors}`)));
    this.#ready = await promise;
  }

  /** As Ctrl-C does: the daemons end, sandboxes live on. */
  async stop(): Promise<void> {
    await this.#end('SIGINT');
  }

  /** As a power cut to the launcher alone. */
  async killLauncher(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Runs the command line against this Perch. @returns its output; throws when it fails */
  async run(...args: string[]): Promise<string> {
    const { stdout } = await promisify(execFile)(process.execPath, [cli, ...args], {
      env: this.env,
      maxBuffer: 64 * 1024 * 1024,
    });
    return stdout;
  }

  /** `perch down`: nothing is left running. */
  async down(): Promise<void> {
    await this.run('down', '--yes');
    if (this.#process) await exited(this.#process);
  }

  leaks(): Promise<Leak[]> {
    return leaks(readSettings(this.env));
  }

  log(daemon: 'perch-host' | 'perchd'): Promise<string> {
    return readFile(join(this.dataDir, 'log', `${daemon}.log`), 'utf8');
  }

  /** Takes everything down and removes its files. @throws Error when anything of it is left on the machine */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.down();
    const left = await this.leaks();
    if (left.length > 0)
      throw new Error(`Left over: ${left.map(({ kind, name }) => `${kind} ${name}`).join('; ')}`);
    await rm(this.dataDir, { recursive: true });
  }

  #expectReady(): Ready {
    if (!this.#ready) throw new Error('This Perch has not been started.');
    return this.#ready;
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    if (!child) return;
    child.kill(signal);
    await exited(child);
  }
}

async function exited(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  await new Promise((resolve) => child.once('exit', resolve));
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
