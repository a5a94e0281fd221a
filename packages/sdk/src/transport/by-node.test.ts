import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { PerchError } from '@perch/protocol';
import { expect, test, vi } from 'vitest';
import { ConnectionError, Perch, UnexpectedAnswerError } from '../index.ts';
import { fakeServer, json } from '../testing/fake-server.ts';

const perchAt = (url: string) => new Perch({ url, apiKey: 'perch_x', retries: 0 });
const filesAt = (url: string) => perchAt(url).sandboxes.files;
const piece = new Uint8Array(100_000);

const failure = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'no error',
    (error: unknown) => error,
  );

/** A source without end, which counts what is taken of it. */
function endless() {
  const source = {
    taken: 0,
    ended: Promise.withResolvers<void>(),
    async *[Symbol.asyncIterator]() {
      try {
        for (;;) {
          source.taken++;
          yield piece;
        }
      } finally {
        source.ended.resolve();
      }
    },
  };
  return source;
}

function refuse(response: ServerResponse): void {
  json(response, 507, new PerchError('disk_full', 'Full.', { path: '/x' }).toBody());
}

test('an upload that is refused before its end is the refusal, and no more of it is sent', async () => {
  await using server = await fakeServer((request, response) => {
    request.once('data', () => {
      request.pause();
      refuse(response);
    });
  });
  const source = endless();
  expect(await failure(filesAt(server.url).write('sb0', '/x', source))).toMatchObject({ code: 'disk_full' });
  await source.ended.promise;
});

test('so is one whose source waits for ever', async () => {
  await using server = await fakeServer((request, response) => {
    request.once('data', () => refuse(response));
  });
  async function* source() {
    yield piece;
    await new Promise(() => {});
  }
  expect(await failure(filesAt(server.url).write('sb0', '/x', source()))).toMatchObject({
    code: 'disk_full',
  });
});

test('an upload whose connection breaks while the other side takes nothing fails', async () => {
  await using server = await fakeServer(async (request) => {
    request.pause();
    await sleep(50);
    request.socket.destroy();
  });
  const source = endless();
  expect(await failure(filesAt(server.url).write('sb0', '/x', source))).toBeInstanceOf(ConnectionError);
  await source.ended.promise;
});

test('a source is asked for no more than the other side takes', async () => {
  const { promise: begun, resolve } = Promise.withResolvers<IncomingMessage>();
  await using server = await fakeServer((request) => resolve(request.pause()));
  const source = endless();
  const cancel = new AbortController();
  const writing = failure(filesAt(server.url).write('sb0', '/x', source, { signal: cancel.signal }));
  await begun;
  let before = -1;
  await vi.waitFor(
    () => {
      const still = source.taken === before;
      before = source.taken;
      expect(still).toBe(true);
    },
    { interval: 200, timeout: 30_000 },
  );
  cancel.abort(new Error('enough'));
  expect(await writing).toMatchObject({ message: 'enough' });
  await source.ended.promise;
});

test('a download is sent no faster than it is read, and one that is left ends', async () => {
  const { promise: answering, resolve } = Promise.withResolvers<ServerResponse>();
  await using server = await fakeServer((_request, response) => {
    resolve(response);
    response.writeHead(200);
    const more = () => {
      while (!response.destroyed && response.write(piece));
    };
    response.on('drain', more);
    more();
  });
  const { stream } = await filesAt(server.url).download('sb0', '/x');
  const response = await answering;
  const reader = stream.getReader();
  expect((await reader.read()).done).toBe(false);
  let before = -1;
  await vi.waitFor(
    () => {
      const { bytesWritten } = response.socket ?? { bytesWritten: 0 };
      const still = bytesWritten === before;
      before = bytesWritten;
      expect(still).toBe(true);
    },
    { interval: 200, timeout: 30_000 },
  );
  const closed = once(response, 'close');
  await reader.cancel();
  await closed;
});

test('a download that its caller ends has the reason of the caller', async () => {
  await using server = await fakeServer((_request, response) => {
    response.writeHead(200).write('part');
  });
  const cancel = new AbortController();
  const { stream } = await filesAt(server.url).download('sb0', '/x', { signal: cancel.signal });
  const reader = stream.getReader();
  await reader.read();
  const rest = failure(reader.read());
  cancel.abort(new Error('enough'));
  expect(await rest).toMatchObject({ message: 'enough' });
});

test('a call that is over before it began sends nothing', async () => {
  await using server = await fakeServer((_request, response) => json(response, 200, {}));
  const signal = AbortSignal.abort(new Error('too late'));
  expect(await failure(perchAt(server.url).sandboxes.get('sb0', { signal }))).toMatchObject({
    message: 'too late',
  });
  await sleep(50);
  expect(server.requests).toEqual([]);
});

test('a redirect is not followed', async () => {
  await using server = await fakeServer((_request, response) => {
    response.writeHead(302, { location: '/elsewhere' }).end();
  });
  expect(await failure(perchAt(server.url).sandboxes.get('sb0'))).toBeInstanceOf(UnexpectedAnswerError);
  expect(server.requests).toHaveLength(1);
});

test('a connection is kept for the next request, and not once it was idle for some seconds', async () => {
  const ports: (number | undefined)[] = [];
  await using server = await fakeServer((request, response) => {
    ports.push(request.socket.remotePort);
    if (request.method === 'GET') json(response, 200, {});
    else request.resume().once('end', () => response.writeHead(204).end());
  });
  const { sandboxes } = perchAt(server.url);
  await sandboxes.get('sb0');
  await sandboxes.files.write('sb0', '/x', 'text');
  await sandboxes.files.write('sb0', '/x', new Blob(['blob']));
  await sandboxes.files.write('sb0', '/x', new Uint8Array(3_000_000));
  await sandboxes.get('sb0');
  // A process that was busy for so long had no time for its timers.
  const later = performance.now() + 5000;
  using clock = vi.spyOn(performance, 'now').mockReturnValue(later);
  await sandboxes.get('sb0');
  expect(clock).toHaveBeenCalled();
  const [first, ...others] = ports;
  expect(others.slice(0, -1)).toEqual(Array(4).fill(first));
  expect(others.at(-1)).not.toBe(first);
});
