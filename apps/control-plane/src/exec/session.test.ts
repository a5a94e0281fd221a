import { EventEmitter } from 'node:events';
import { isDeepStrictEqual } from 'node:util';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Guest } from '../guests/index.ts';
import type { Life } from '../sandboxes/index.ts';
import { ExecSession, type ExecSocket } from './session.ts';

const pingMs = 20_000;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A client whose answers to pings a test gives. */
class FakeSocket extends EventEmitter implements ExecSocket {
  bufferedAmount = 0;
  readyState = 1;
  pings = 0;
  terminated = false;
  readonly sent: unknown[] = [];

  send(data: string, done: () => void): void {
    this.sent.push(JSON.parse(data));
    done();
  }
  ping(): void {
    this.pings++;
  }
  pause(): void {}
  resume(): void {}
  close(): void {
    this.terminate();
  }
  terminate(): void {
    this.readyState = 3;
    this.terminated = true;
    this.emit('close');
  }
}

/** A session with a command that says nothing and ends with its signal. */
async function silentSession(): Promise<{
  socket: FakeSocket;
  ended: Promise<unknown>;
  killed: () => boolean;
}> {
  const socket = new FakeSocket();
  const signals: unknown[] = [];
  const guest = {
    async signal(...what: unknown[]) {
      signals.push(what);
    },
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
  socket.emit('message', Buffer.from('{"type":"start","cmd":"sleep"}'), false);
  await vi.advanceTimersByTimeAsync(0);
  expect(socket.sent).toEqual([{ type: 'start', pid: 7 }]);
  return { socket, ended, killed: () => signals.some((what) => isDeepStrictEqual(what, [7, 'SIGKILL'])) };
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

test('a connection without a start is not kept', async () => {
  const socket = new FakeSocket();
  const life = { id: 'sb1', signal: new AbortController().signal } as unknown as Life;
  const ended = new ExecSession(socket, {} as Guest, life, new AbortController().signal).run();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await ended).toBe('error');
  expect(socket.sent).toMatchObject([{ type: 'error', error: { code: 'validation_failed' } }]);
  expect(socket.terminated).toBe(true);
});
