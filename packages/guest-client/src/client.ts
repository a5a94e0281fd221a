import type { Readable } from 'node:stream';
import type { FileChange, FileEntry, TerminalSize } from '@perch/protocol';
import type { Pool } from 'undici';
import { type FileContent, readArchive, readFile, type WriteOptions, writeFile } from './files/content.ts';
import {
  type DirectoryPage,
  listPage,
  makeDir,
  move,
  type PageOptions,
  type PathOptions,
  remove,
  stat,
} from './files/directory.ts';
import { type WatchOptions, watch } from './files/watch.ts';
import type { StreamOptions } from './frames.ts';
import {
  attachCommand,
  type GuestCommand,
  type GuestCommandOutput,
  listCommands,
  readCommand,
} from './process/commands.ts';
import { closeStdin, resize, sendSignal, sendStdin } from './process/control.ts';
import {
  type AttachedProcess,
  type GuestProcess,
  type StartOptions,
  startProcess,
} from './process/process.ts';
import { Transport } from './transport.ts';

export interface GuestClientOptions {
  /** Slot address of the sandbox. */
  address: string;
  port?: number;
  /** Of this life of the sandbox. */
  accessToken: string;
  /** For errors. */
  sandboxId: string;
  /** Longest silence of a stream, ms; the agent sends keepalives every 30 s. */
  idleTimeoutMs?: number;
  /** Longest duration of a call with one answer, ms. */
  callTimeoutMs?: number;
  /** How much longer than the agent we wait for a command's time-out, ms. */
  graceMs?: number;
  pool?: Pool.Options;
}

/**
 * Client of one life of one sandbox. Every error is a PerchError, but for a caller's own abort reason.
 * Every call may throw guest_unavailable and guest_protocol.
 */
export interface GuestClient extends AsyncDisposable {
  /** @throws invalid_user, invalid_cwd, validation_failed. A command that is not there is exit code 127. */
  start(options: StartOptions): Promise<GuestProcess>;
  /** Resolves when the process has taken it. False: it has gone, or closed its input. */
  sendStdin(pid: number, data: Buffer, signal?: AbortSignal): Promise<boolean>;
  closeStdin(pid: number, signal?: AbortSignal): Promise<boolean>;
  /** False: the process has gone, or has no terminal. */
  resize(pid: number, size: TerminalSize): Promise<boolean>;
  /** To the process group. False: it has gone. */
  signal(pid: number, name: string): Promise<boolean>;
  /** The commands that run, and those that have ended and are still known, in no order. */
  commands(signal?: AbortSignal): Promise<GuestCommand[]>;
  /** @throws command_not_found */
  command(pid: number, signal?: AbortSignal): Promise<GuestCommandOutput>;
  /** Its kept output and then what follows; leaving it changes nothing. @throws command_not_found */
  attach(pid: number, options?: StreamOptions): Promise<AttachedProcess>;
  readFile(path: string, options?: PathOptions): Promise<FileContent>;
  /** See `readArchive`. @throws agent_too_old */
  readArchive(path: string, options?: PathOptions): Promise<Readable>;
  writeFile(
    path: string,
    source: Readable | AsyncIterable<Uint8Array>,
    options?: WriteOptions,
  ): Promise<void>;
  stat(path: string, options?: PathOptions): Promise<FileEntry>;
  /** Some of a directory's own entries. */
  listPage(path: string, options: PageOptions): Promise<DirectoryPage>;
  /** Resolves when it is watched; see `watch` for its errors. */
  watch(path: string, options?: WatchOptions): Promise<AsyncGenerator<FileChange, void, void>>;
  makeDir(path: string, options?: PathOptions): Promise<FileEntry>;
  move(source: string, destination: string, options?: PathOptions): Promise<FileEntry>;
  remove(path: string, options?: PathOptions): Promise<void>;
  /** Ends all connections; what is under way fails with guest_unavailable. */
  close(): Promise<void>;
}

export function createGuestClient(options: GuestClientOptions): GuestClient {
  const transport = new Transport({
    port: 49_983,
    idleTimeoutMs: 75_000,
    callTimeoutMs: 30_000,
    graceMs: 5_000,
    ...options,
  });
  const signal = (pid: number, name: string) => sendSignal(transport, pid, name);
  const kill = (pid: number) => signal(pid, 'SIGKILL');
  return {
    start: (start) => startProcess(transport, start, kill),
    sendStdin: (pid, data, abort) => sendStdin(transport, pid, data, abort),
    closeStdin: (pid, signal) => closeStdin(transport, pid, signal),
    resize: (pid, size) => resize(transport, pid, size),
    signal,
    commands: (abort) => listCommands(transport, abort),
    command: (pid, abort) => readCommand(transport, pid, abort),
    attach: (pid, how = {}) => attachCommand(transport, pid, how, kill),
    readFile: (path, how) => readFile(transport, path, how),
    readArchive: (path, how) => readArchive(transport, path, how),
    writeFile: (path, source, how) => writeFile(transport, path, source, how),
    stat: (path, how) => stat(transport, path, how),
    listPage: (path, how) => listPage(transport, path, how),
    watch: (path, how) => watch(transport, path, how),
    makeDir: (path, how) => makeDir(transport, path, how),
    move: (source, destination, how) => move(transport, source, destination, how),
    remove: (path, how) => remove(transport, path, how),
    close: () => transport.close(),
    [Symbol.asyncDispose]: () => transport.close(),
  };
}
