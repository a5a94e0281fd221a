/**
 * A guest that is this machine: real processes and real files below a directory. For tests of perchd alone;
 * the real agent is covered by the suites of guest-client and end to end.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, createWriteStream, type ReadStream } from 'node:fs';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { constants } from 'node:os';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { ProcessEvent } from '@perch/guest-client';
import { type FileEntry, PerchError } from '@perch/protocol';
import type { Guest } from '../guests/index.ts';

export class LocalGuest {
  readonly root: string;
  readonly children = new Map<number, ChildProcess>();
  /** The file that was asked for last. */
  reading: ReadStream | undefined;
  readonly #closed = new AbortController();

  constructor(root: string) {
    this.root = root;
  }

  /** Its connections were closed: nothing can be asked of it any more. */
  get closed(): boolean {
    return this.#closed.signal.aborted;
  }

  /** Ends it as when the VM dies. */
  die(): void {
    for (const pid of this.children.keys()) kill(pid, 'SIGKILL');
    this.#closed.abort(new PerchError('guest_unavailable', 'The guest died.', { id: 'guest' }));
  }

  asGuest(): Guest {
    const guest: Guest = {
      start: (options) => this.#start(options),
      sendStdin: async (pid, data) => {
        const stdin = this.children.get(pid)?.stdin;
        if (!stdin?.writable) return false;
        if (!stdin.write(data)) await Promise.race([once(stdin, 'drain'), once(stdin, 'close')]);
        return true;
      },
      closeStdin: async (pid) => this.children.get(pid)?.stdin?.end() !== undefined,
      // There is no terminal here.
      resize: async () => false,
      signal: async (pid, name) => kill(pid, name as NodeJS.Signals),
      commands: async () => {
        this.#closed.signal.throwIfAborted();
        return [...this.children].map(([pid, { spawnfile, spawnargs }]) => ({
          pid,
          cmd: spawnfile,
          args: spawnargs.slice(1),
          startedAt: new Date(),
          end: undefined,
        }));
      },
      command: async (pid) => unknownCommand(pid),
      attach: async (pid) => unknownCommand(pid),
      readFile: async (path, how) => {
        const found = await this.#file(path);
        if (!found.isFile()) throw new PerchError('not_a_file', `${path} is not a file.`, { path });
        const signal = this.#while(how?.signal);
        this.reading = createReadStream(this.#at(path), { signal });
        return {
          stream: this.reading,
          size: found.size,
          mode: found.mode & 0o777,
          modifiedAt: found.mtime.toISOString(),
        };
      },
      readArchive: async (path, how) => {
        if (!(await this.#file(path)).isDirectory())
          throw new PerchError('not_a_directory', `${path} is no directory.`, { path });
        const signal = this.#while(how?.signal);
        const tar = spawn('tar', ['--create', '--format=gnu', '--directory', this.#at(path), '.'], {
          ...{ stdio: ['ignore', 'pipe', 'ignore'], signal },
        });
        tar.on('error', (error) => tar.stdout.destroy(error));
        return tar.stdout;
      },
      writeFile: async (path, source, how) => {
        const signal = this.#while(how?.signal);
        const unfinished = `${this.#at(path)}.part`;
        try {
          await pipeline(source, createWriteStream(unfinished), { signal });
          await rename(unfinished, this.#at(path));
        } catch (error) {
          await rm(unfinished, { force: true });
          if (error instanceof PerchError) throw error;
          throw new PerchError('transfer_interrupted', `${path} broke off.`, { path }, { cause: error });
        }
      },
      stat: (path) => this.#entry(path),
      listPage: async (path, { limit, cursor = '' }) => {
        if (!(await this.#file(path)).isDirectory()) {
          throw new PerchError('not_a_directory', `${path} is no directory.`, { path });
        }
        const after = Buffer.from(cursor, 'base64url').toString();
        const names = (await readdir(this.#at(path))).sort().filter((name) => name > after);
        const entries = names.slice(0, limit).map((name) => this.#entry(join(path, name)));
        const last = names.length > limit ? names[limit - 1] : undefined;
        return {
          entries: await Promise.all(entries),
          nextCursor: last === undefined ? undefined : Buffer.from(last).toString('base64url'),
        };
      },
      watch: async (path, how) => {
        await this.#file(path);
        return silence(this.#while(how?.signal));
      },
      makeDir: async (path) => {
        if (await this.#file(path).catch(() => undefined)) {
          throw new PerchError('file_exists', `${path} exists already.`, { path });
        }
        await mkdir(this.#at(path), { recursive: true });
        return this.#entry(path);
      },
      move: async (source, destination) => {
        await this.#file(source);
        await rename(this.#at(source), this.#at(destination));
        return this.#entry(destination);
      },
      remove: async (path) => rm(this.#at(path), { recursive: true, force: true }),
      close: async () => {
        this.#closed.abort(
          new PerchError('guest_unavailable', 'The connections were closed.', { id: 'guest' }),
        );
      },
    };
    return guest;
  }

  #at(path: string): string {
    return join(this.root, path);
  }

  async #file(path: string) {
    return stat(this.#at(path)).catch(() => {
      throw new PerchError('file_not_found', `${path} does not exist.`, { path });
    });
  }

  async #entry(path: string): Promise<FileEntry> {
    const found = await this.#file(path);
    return {
      name: basename(path),
      path,
      type: found.isDirectory() ? 'directory' : 'file',
      size: found.size,
      mode: found.mode & 0o777,
      permissions: '',
      owner: 'user',
      group: 'user',
      modified_at: found.mtime.toISOString(),
    };
  }

  async #start(options: Parameters<Guest['start']>[0]): ReturnType<Guest['start']> {
    this.#closed.signal.throwIfAborted();
    if (options.cwd !== undefined && !(await stat(options.cwd).catch(() => undefined))) {
      throw new PerchError('invalid_cwd', `The directory ${options.cwd} does not exist.`, {
        cwd: options.cwd,
      });
    }
    const child = spawn(options.cmd, [...(options.args ?? [])], {
      cwd: options.cwd ?? this.root,
      env: { PATH: process.env.PATH, ...options.env },
      stdio: [options.stdin ? 'pipe' : 'ignore', 'pipe', 'pipe'],
      detached: true,
    });
    child.stdin?.on('error', () => {});
    if (
      !(await Promise.race([once(child, 'spawn'), once(child, 'error').then(() => false)]).catch(() => false))
    ) {
      return { pid: 0, events: notThere(options.cmd), async kill() {} };
    }
    const pid = child.pid ?? 0;
    this.children.set(pid, child);
    child.once('close', () => this.children.delete(pid));
    let timedOut = false;
    const timer =
      options.timeoutMs === undefined
        ? undefined
        : setTimeout(() => {
            timedOut = true;
            kill(pid, 'SIGKILL');
          }, options.timeoutMs);
    const events = this.#events(
      child,
      options,
      () => timedOut,
      () => clearTimeout(timer),
    );
    return { pid, events, kill: async () => void kill(pid, 'SIGKILL') };
  }

  /** Until the guest is gone, or whoever asks. */
  #while(asked: AbortSignal | undefined): AbortSignal {
    return AbortSignal.any([this.#closed.signal, ...(asked ? [asked] : [])]);
  }

  async *#events(
    child: ChildProcess,
    options: Parameters<Guest['start']>[0],
    timedOut: () => boolean,
    done: () => void,
  ): AsyncGenerator<ProcessEvent, void, void> {
    const signal = this.#while(options.signal);
    const queue: ProcessEvent[] = [];
    let wake = Promise.withResolvers<void>();
    const push = (event: ProcessEvent) => {
      queue.push(event);
      wake.resolve();
      if (queue.length > 16) for (const stream of [child.stdout, child.stderr]) stream?.pause();
    };
    child.stdout?.on('data', (data: Buffer) => push({ type: 'stdout', data }));
    child.stderr?.on('data', (data: Buffer) => push({ type: 'stderr', data }));
    child.once('close', (code, name) => {
      const exitCode = name ? 128 + constants.signals[name] : (code ?? 0);
      push(timedOut() ? { type: 'timeout' } : { type: 'end', exitCode });
    });
    signal.addEventListener('abort', () => wake.resolve());
    try {
      for (;;) {
        signal.throwIfAborted();
        const event = queue.shift();
        if (event) {
          yield event;
          if (event.type === 'end' || event.type === 'timeout') return;
          continue;
        }
        wake = Promise.withResolvers();
        for (const stream of [child.stdout, child.stderr]) stream?.resume();
        if (queue.length === 0 && !signal.aborted) await wake.promise;
      }
    } finally {
      done();
      if (options.leash === 'end' && child.exitCode === null) kill(child.pid ?? 0, 'SIGKILL');
    }
  }
}

/** Changes are told by the real agent only. */
async function* silence(until: AbortSignal): AsyncGenerator<never, void, void> {
  yield await new Promise<never>((_, reject) => {
    until.addEventListener('abort', () => reject(until.reason));
    if (until.aborted) reject(until.reason);
  });
}

async function* notThere(cmd: string): AsyncGenerator<ProcessEvent, void, void> {
  yield { type: 'stderr', data: Buffer.from(`command not found: ${cmd}\n`) };
  yield { type: 'end', exitCode: 127 };
}

/** Output is kept by the real agent only. */
function unknownCommand(pid: number): never {
  throw new PerchError('command_not_found', `There is no command ${pid}.`, { id: 'guest', pid });
}

function kill(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(-pid, signal);
  } catch {
    return false;
  }
}
