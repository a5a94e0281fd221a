import { once } from 'node:events';
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';
import { fc, test } from '@fast-check/vitest';
import { expect, onTestFinished, vi } from 'vitest';
import { giveIdentity, guestPort, unconfirmed } from './identity.ts';

const all = ['clock', 'entropy', 'hostname', 'machineId', 'token', 'environment', 'user', 'connections'];

test('a guest that confirmed everything of this generation is accepted', () => {
  expect(unconfirmed(JSON.stringify({ generation: 3, confirmed: all }), 3)).toEqual([]);
});

test('a guest gets the time at which it is told, however long it took to reach it', async () => {
  // Any address of the machine itself will do, and the port is the guest agent's.
  const [guest, began] = ['127.49.98.3', Date.parse('2030-01-02T03:04:05.000Z')];
  const told = Promise.withResolvers<{ timestamp: string }>();
  const server = createServer((request, response) => {
    json(request).then((body) => told.resolve(body as { timestamp: string }), told.reject);
    response.end(JSON.stringify({ generation: 3, confirmed: all }));
  });
  await once(server.listen(guestPort, guest), 'listening');
  vi.useFakeTimers({ toFake: ['Date'], now: began });
  onTestFinished(() => {
    vi.useRealTimers();
    server.close();
  });
  const identity = {
    sandboxId: 'sb',
    templateId: 'base',
    number: 3,
    accessToken: 'token',
    defaultUser: 'user',
  };
  const given = giveIdentity(guest, identity, new AbortController().signal);
  // The connection is on its way.
  vi.setSystemTime(began + 2500);
  await given;
  expect(Date.parse((await told.promise).timestamp)).toBe(began + 2500);
});

test('a guest that left out a point, or answers for another life, is not', () => {
  expect(unconfirmed(JSON.stringify({ generation: 3, confirmed: all.slice(1) }), 3)).toEqual(['clock']);
  expect(unconfirmed(JSON.stringify({ generation: 2, confirmed: all }), 3)).toEqual(['generation']);
});

test.prop([fc.oneof(fc.string(), fc.json())])(
  'whatever else a guest answers is not a confirmation',
  (text) => {
    expect(unconfirmed(text, 1).length).toBeGreaterThan(0);
  },
);
