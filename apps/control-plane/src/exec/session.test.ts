import { EventEmitter } from 'node:events';
import { isDeepStrictEqual } from 'node:util';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Guest } from '../guests/index.ts';
import type { Life } from '../sandboxes/index.ts';
import type { ServerSocket } from '../sockets/index.ts';
import { ExecSession } from './session.ts';

const pingMs = 20_000;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A client whose answers to pings a test gives. */
class FakeSocket extends EventEmitter implements ServerSocket {
  bufferedAmount = 0;
  readyState = 1;
  pings = 0;
  terminated = false;
  held = false;
  readonly sent: unknown[] = [];

  send(data: string, done: () => void): void {
    this.sent.push(JSON.parse(data));
    done();
  }
  ping(): void {
    this.pings++;
  }
  pause(): void {
    this.held = true;
  }
  resume(): void {
    this.held = false;
  }
  close(): void {
    this.terminate();
  }
  terminate(): void {
    this.readyState = 3;
    this.terminated = true;
    this.emit('close');
  }
}

/** A session with a command that says nothing, takes input when it is told to, and ends with its signal. */
async function silentSession(): Promise<{
  socket: FakeSocket;
  ended: Promise<unknown>;
  takeInput: () => void;
  killed: () => boolean;
}> {
  const socket = new FakeSocket();
  const signals: unknown[] = [];
  const taken = Promise.withResolvers<boolean>();
  const guest = {
    async signal(...what: unknown[]) {
      signals.push(what);
    },
    sendStdin: () => taken.promise,
    async start(options: { signal: AbortSignal }) {
      const over = new Promise<never>((_resolve, reject) => {
        options.signal.addEventListener('abort', () => reject(options.signal.reason));
      });
      over.catch(() => {});
      const events = { [Symbol.asyncIterator]: () => ({ next: () => over }) };
      return { pid: 7, events };
    },
  } as unknown as Guest;
  const life = { id: 'sb1', signal: new AbortController().signal } as unknown as Life;
  const ended = new ExecSession(socket, guest, life, new AbortController().signal).run();
  socket.emit('message', Buffer.from('{"type":"start","cmd":"sleep","stdin":true}'), false);
  await vi.advanceTimersByTimeAsync(0);
  expect(socket.sent).toEqual([{ type: 'start', pid: 7 }]);
  return {
    socket,
    ended,
    takeInput: () => taken.resolve(true),
    killed: () => signals.some((what) => isDeepStrictEqual(what, [7, 'SIGKILL'])),
  };
}

test('a client that answers pings is kept, however silent its command is', async () => {
  const { socket, ended, killed } = await silentSession();
  for (let n = 1; n <= 10; n++) {
    await vi.advanceTimersByTimeAsync(pingMs);
    expect(socket.pings).toBe(n);
    socket.emit('pong');
  }
  expect([socket.terminated, killed()]).toEqual([false, false]);
  socket.terminate();
  await ended;
});

test('one that does not is cut off, and its command with it', async () => {
  const { socket, ended, killed } = await silentSession();
  await vi.advanceTimersByTimeAsync(pingMs);
  expect(socket.terminated).toBe(false);
  await vi.advanceTimersByTimeAsync(pingMs);
  expect([socket.terminated, socket.pings]).toEqual([true, 1]);
  await ended;
  expect(killed()).toBe(true);
});

test('one that has not read what was sent before is not asked', async () => {
  const { socket, ended } = await silentSession();
  socket.bufferedAmount = 1;
  await vi.advanceTimersByTimeAsync(10 * pingMs);
  expect([socket.terminated, socket.pings]).toEqual([false, 0]);
  socket.terminate();
  await ended;
});

test('one whose input the command does not take is pinged, and its answer is not waited for', async () => {
  const { socket, ended, takeInput } = await silentSession();
  const input = JSON.stringify({ type: 'stdin', data: 'x'.repeat(5 * 1024 * 1024) });
  socket.emit('message', Buffer.from(input), false);
  expect(socket.held).toBe(true);
  await vi.advanceTimersByTimeAsync(10 * pingMs);
  expect([socket.terminated, socket.pings]).toEqual([false, 10]);
  takeInput();
  await vi.advanceTimersByTimeAsync(pingMs);
  expect([socket.held, socket.terminated, socket.pings]).toEqual([false, false, 11]);
  await vi.advanceTimersByTimeAsync(pingMs);
  expect(socket.terminated).toBe(true);
  await ended;
});

test.each([
  ['%%%', 'the character at 0 is none of it'],
  ['QUJD!', 'the character at 4 is none of it'],
  ['QUJD=QUJD', 'the character at 4 is none of it'],
  ['QUJDR', 'its end is missing or too long'],
  ['QUI==', 'its end is missing or too long'],
])('input in the malformed base64 %s is refused', async (data_base64, problem) => {
  const { socket, ended } = await silentSession();
  socket.emit('message', Buffer.from(JSON.stringify({ type: 'stdin', data_base64 })), false);
  expect(await ended).toBe('error');
  const message = `the message of type stdin must have base64 in data_base64: ${problem}`;
  expect(socket.sent.at(-1)).toMatchObject({ type: 'error', error: { code: 'validation_failed', message } });
});

test.each(['', 'QQ==', 'QQ', '+/8=', '-_8'])('input in the base64 %j is taken', async (data_base64) => {
  const { socket, ended } = await silentSession();
  socket.emit('message', Buffer.from(JSON.stringify({ type: 'stdin', data_base64 })), false);
  await vi.advanceTimersByTimeAsync(0);
  expect([socket.terminated, socket.sent.length]).toEqual([false, 1]);
  socket.terminate();
  await ended;
});

test('a connection without a start is not kept', async () => {
  const socket = new FakeSocket();
  const life = { id: 'sb1', signal: new AbortController().signal } as unknown as Life;
  const ended = new ExecSession(socket, {} as Guest, life, new AbortController().signal).run();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await ended).toBe('error');
  expect(socket.sent).toMatchObject([{ type: 'error', error: { code: 'validation_failed' } }]);
  expect(socket.terminated).toBe(true);
});

test.each([
  [{ type: 'timeout' }, 'The command took longer than 5 s and was killed.'],
  [
    { type: 'timeout', unanswered: true },
    'The sandbox did not answer within the 5 s of the command, which may still run.',
  ],
])('a command whose stream ends with %j is told as what is known of it', async (event, message) => {
  const socket = new FakeSocket();
  async function* events() {
    yield event;
  }
  const guest = { start: async () => ({ pid: 0, events: events() }) } as unknown as Guest;
  const life = { id: 'sb1', signal: new AbortController().signal } as unknown as Life;
  const ended = new ExecSession(socket, guest, life, new AbortController().signal).run();
  socket.emit('message', Buffer.from('{"type":"start","cmd":"x","timeout_sec":5}'), false);
  await ended;
  expect(socket.sent.at(-1)).toMatchObject({ type: 'error', error: { code: 'exec_timeout', message } });
});
