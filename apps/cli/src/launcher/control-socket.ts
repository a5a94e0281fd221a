/**
 * The socket by which one `perch up` owns a data directory, and by which `perch down` reaches it. It is
 * root's alone. One line each way: a Command, then an Answer.
 */
import { chmod, rm } from 'node:fs/promises';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { dataPaths } from '@perch/protocol';

export interface Command {
  command: 'stop';
  /** Destroy all sandboxes and take down the slots, too. */
  remove: boolean;
}
/** `removed`: sandboxes and slots are gone; a stop that was under way already leaves them. */
export type Answer = { ok: true; removed: boolean } | { ok: false; message: string };

const maxLine = 4096;

function socketPath(dataDir: string): string {
  return join(dataPaths(dataDir).run, 'up.sock');
}

/**
 * Takes the data directory for this process.
 * @returns undefined when another process has it
 */
export async function claim(
  dataDir: string,
  handle: (command: Command) => Promise<Answer>,
): Promise<Server | undefined> {
  const path = socketPath(dataDir);
  const other = await connect(path);
  if (other) {
    other.destroy();
    return undefined;
  }
  // Nobody listens: what lies there is from a process that was killed.
  await rm(path, { force: true });
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    // Whoever breaks off, or says what is no command, ends nothing but their own connection.
    serve(socket, handle).catch(() => socket.destroy());
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(path, resolve);
  await promise;
  await chmod(path, 0o600);
  return server;
}

/** Sends a command to the `perch up` of a data directory. @returns undefined when none runs */
export async function send(dataDir: string, command: Command): Promise<Answer | undefined> {
  const socket = await connect(socketPath(dataDir));
  if (!socket) return undefined;
  socket.end(`${JSON.stringify(command)}\n`);
  const line = await text(socket);
  return line ? (JSON.parse(line) as Answer) : { ok: false, message: '`perch up` ended without an answer.' };
}

/** Whether a `perch up` runs on the data directory. */
export async function isUp(dataDir: string): Promise<boolean> {
  const socket = await connect(socketPath(dataDir));
  socket?.destroy();
  return socket !== undefined;
}

async function serve(socket: Socket, handle: (command: Command) => Promise<Answer>): Promise<void> {
  socket.on('error', () => socket.destroy());
  let line = '';
  for await (const chunk of socket.setEncoding('utf8')) {
    line += chunk;
    if (line.length > maxLine) return void socket.destroy();
  }
  if (line === '') return void socket.end();
  const answer = await handle(JSON.parse(line) as Command);
  socket.end(`${JSON.stringify(answer)}\n`);
}

function connect(path: string): Promise<Socket | undefined> {
  const { promise, resolve } = Promise.withResolvers<Socket | undefined>();
  const socket = createConnection({ path, allowHalfOpen: true });
  socket.once('connect', () => resolve(socket));
  socket.once('error', () => resolve(undefined));
  return promise;
}
