import { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { test as property } from '@fast-check/vitest';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { QmpClient } from './client.ts';
import { LineReader, LineTooLong, maxLineBytes } from './line-reader.ts';
import { parseMessage, type QmpEvent } from './messages.ts';

describe('the line reader', () => {
  property.prop([fc.array(fc.string({ unit: 'grapheme' })), fc.array(fc.nat(40))])(
    'gives the same lines however the stream was cut',
    (texts, cuts) => {
      const lines = texts.map((text) => text.replace(/[\r\n]/g, ''));
      const bytes = Buffer.from(lines.map((line) => `${line}\r\n`).join(''));
      const reader = new LineReader();
      const got: string[] = [];
      let at = 0;
      for (const cut of cuts) {
        got.push(...reader.push(bytes.subarray(at, at + cut)));
        at += cut;
      }
      got.push(...reader.push(bytes.subarray(at)));
      expect(got).toEqual(lines);
    },
  );

  test('refuses a line over the limit, before it is complete', () => {
    expect(new LineReader().push(Buffer.alloc(maxLineBytes, 'x'))).toEqual([]);
    const reader = new LineReader();
    reader.push(Buffer.alloc(maxLineBytes, 'x'));
    expect(() => reader.push(Buffer.from('x'))).toThrow(LineTooLong);
    expect(() => new LineReader(4).push(Buffer.from('ok\n12345\n'))).toThrow(LineTooLong);
  });
});

describe('the message parser', () => {
  property.prop([
    fc.oneof(
      fc.string(),
      fc.json(),
      fc.json().map((json) => `{"return":${json},"id":1}`),
    ),
  ])('either gives a message or throws an Error', (line) => {
    try {
      expect(['greeting', 'return', 'error', 'event']).toContain(parseMessage(line).kind);
    } catch (error) {
      expect(error).toBeInstanceOf(Error);
    }
  });

  test('knows the four messages', () => {
    expect(
      parseMessage('{"QMP":{"version":{"qemu":{"micro":2,"minor":0,"major":10}},"capabilities":[]}}'),
    ).toEqual({ kind: 'greeting', version: '10.0.2' });
    expect(parseMessage('{"return":{},"id":3}')).toEqual({ kind: 'return', id: 3, value: {} });
    const desc = '\\u001b[2J'.padEnd(100_000, 'x');
    const hostile = parseMessage(`{"id":4,"error":{"class":"GenericError","desc":"${desc}"}}`);
    expect(hostile).toMatchObject({ description: expect.stringMatching(/^\\u001b\[2Jx{100,300}…$/) });
    expect(parseMessage('{"id":4,"error":{"class":"GenericError","desc":"no"}}')).toEqual({
      kind: 'error',
      id: 4,
      class: 'GenericError',
      description: 'no',
    });
    expect(parseMessage('{"timestamp":{},"event":"RESUME"}')).toEqual({
      kind: 'event',
      event: { event: 'RESUME', data: {} },
    });
  });
});

/** A QEMU that answers each line by `reply`; what it returns is sent as it is. */
function fakeQemu(reply: (command: { execute: string; id: number }) => string | undefined): Duplex {
  const stream = new Duplex({
    read() {},
    write(chunk, _, done) {
      const answer = reply(JSON.parse(String(chunk)));
      if (answer !== undefined) setImmediate(() => stream.push(answer));
      done();
    },
  });
  stream.push('{"QMP":{"version":{"qemu":{"micro":2,"minor":0,"major":10}},"capabilities":[]}}\r\n');
  return stream;
}

const patience = () => AbortSignal.timeout(10_000);
const ok = (id: number, value: unknown = {}) => `${JSON.stringify({ return: value, id })}\r\n`;

describe('a client', () => {
  test('gives each answer to its command, in any order, and passes events on', async () => {
    const events: QmpEvent[] = [];
    let held: number | undefined;
    const stream = fakeQemu(({ execute, id }) => {
      if (execute === 'slow') {
        held = id;
        return undefined;
      }
      if (execute === 'quick') return `{"event":"STOP"}\r\n${ok(id, 'quick')}${ok(held ?? 0, 'slow')}`;
      return ok(id);
    });
    const client = await QmpClient.open(stream, patience(), { onEvent: (event) => events.push(event) });
    expect(client.version).toBe('10.0.2');
    expect(await Promise.all([client.execute('slow'), client.execute('quick')])).toEqual(['slow', 'quick']);
    expect(events).toEqual([{ event: 'STOP', data: {} }]);
    client.close();
    expect(await client.closed).toBeUndefined();
  });

  test('tells refusal, time-out, a broken connection and a closed one apart', async () => {
    const stream = fakeQemu(({ execute, id }) => {
      if (execute === 'bad') return `{"error":{"class":"GenericError","desc":"no disk"},"id":${id}}\n`;
      return execute === 'silent' ? undefined : ok(id);
    });
    const client = await QmpClient.open(stream, patience());
    await expect(client.execute('bad')).rejects.toMatchObject({
      outcome: 'refused',
      message: 'bad: no disk (GenericError)',
    });
    await expect(client.execute('silent', undefined, 20)).rejects.toMatchObject({ outcome: 'unknown' });
    const cut = client.execute('silent');
    stream.destroy();
    await expect(cut).rejects.toMatchObject({ outcome: 'unknown' });
    await expect(client.execute('quick')).rejects.toMatchObject({ outcome: 'not_sent' });
    expect(await client.closed).toBeInstanceOf(Error);
  });

  test('ignores an answer that comes after its time-out', async () => {
    let late: number | undefined;
    const stream = fakeQemu(({ execute, id }) => {
      if (execute !== 'slow') return late === undefined ? ok(id) : ok(late) + ok(id, 'mine');
      late = id;
      return undefined;
    });
    const client = await QmpClient.open(stream, patience());
    await expect(client.execute('slow', undefined, 10)).rejects.toMatchObject({ outcome: 'unknown' });
    expect(await client.execute('next')).toBe('mine');
    client.close();
  });

  test('waits for the greeting and the agreement as long as it may, then gives the stream up', async () => {
    const silent = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
    await expect(QmpClient.open(silent, AbortSignal.timeout(20))).rejects.toThrow(
      'No greeting: QEMU did not answer in time',
    );
    expect(silent.destroyed).toBe(true);
    const beingSetUp = fakeQemu(() => undefined);
    const gone = new AbortController();
    const opened = QmpClient.open(beingSetUp, gone.signal, { timeoutMs: 1 });
    const early = Promise.race([opened.then(() => 'opened'), sleep(50, 'waits')]);
    expect(await early).toBe('waits');
    gone.abort();
    await expect(opened).rejects.toThrow('qmp_capabilities: QEMU did not answer in time');
    expect(beingSetUp.destroyed).toBe(true);
  });

  property.prop([
    fc.array(
      fc.oneof(
        fc.uint8Array(),
        fc.json().map((json) => Buffer.from(json)),
      ),
    ),
  ])('answers any bytes by closing or by going on, and leaves nothing pending', async (chunks) => {
    const stream = fakeQemu(({ execute, id }) => (execute === 'wait' ? undefined : ok(id)));
    const client = await QmpClient.open(stream, patience());
    const waiting = client.execute('wait').catch((error: Error) => error.name);
    for (const chunk of chunks) stream.push(chunk.length > 0 ? Buffer.from(chunk) : '\n');
    await new Promise(setImmediate);
    client.close();
    await client.closed;
    expect(await waiting).toBe('QmpError');
  });
});
