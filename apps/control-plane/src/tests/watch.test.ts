/** `files/watch`, with the real guest agent, which runs here as an ordinary process. */
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ErrorBody, ExecTicket } from '@perch/protocol';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TestPlane } from '../testing/index.ts';
import { agentIsBuilt, RealPlane } from '../testing/real-agent.ts';
import { StreamClient } from '../testing/stream-client.ts';

if (!agentIsBuilt) console.warn('skipped: there is no guest agent; `npm run setup` builds it');

describe.skipIf(!agentIsBuilt)('a watch', () => {
  let real: RealPlane;
  let plane: TestPlane;
  let id: string;
  let dir: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'perch-test-'));
    real = await RealPlane.start();
    ({ plane, id } = real);
  }, 60_000);
  afterAll(async () => {
    await real[Symbol.asyncDispose]();
    await rm(dir, { recursive: true, force: true });
  });

  const at = (query: Record<string, string>) =>
    `/v1/sandboxes/${id}/files/watch?${new URLSearchParams(query)}`;
  const open = (
    query: Record<string, string>,
    headers: Record<string, string> = { 'x-api-key': plane.key },
  ) => StreamClient.open(`${plane.url}${at(query)}`, headers);
  const upload = (path: string, body: string) =>
    plane.fetch(`/v1/sandboxes/${id}/files/stream/write?${new URLSearchParams({ path })}`, {
      method: 'POST',
      body,
    });
  async function take(client: StreamClient, count: number): Promise<unknown[]> {
    const messages = [];
    for (let i = 0; i < count; i++) messages.push(await client.next());
    return messages;
  }

  test('it tells what happens in a directory, of an upload as of one file', async () => {
    const path = join(dir, 'plain');
    await mkdir(path);
    await using client = await open({ path });
    expect(await client.next()).toEqual({ type: 'start' });
    await upload(join(path, 'ü.txt'), 'text');
    const name = 'ü.txt';
    expect(await take(client, 3)).toEqual(['create', 'chmod', 'write'].map((type) => ({ type, name })));
    await upload(join(path, 'ü.txt'), 'other text');
    expect(await client.next()).toEqual({ type: 'write', name });
    await rename(join(path, name), join(path, 'new'));
    await rm(join(path, 'new'));
    expect(await take(client, 3)).toEqual([
      { type: 'rename', name },
      { type: 'create', name: 'new' },
      { type: 'remove', name: 'new' },
    ]);
  });

  test('it takes in a tree when it is asked to, and ends with it', async () => {
    const path = join(dir, 'tree');
    await mkdir(join(path, 'deep'), { recursive: true });
    await using client = await open({ path, recursive: 'true' });
    expect(await client.next()).toEqual({ type: 'start' });
    await mkdir(join(path, 'deep/new'));
    expect(await client.next()).toEqual({ type: 'create', name: 'deep/new' });
    await rm(path, { recursive: true });
    const end = (await client.rest()).at(-1);
    expect(end).toMatchObject({ type: 'error', error: { code: 'file_not_found' } });
    expect(await client.closed).toEqual({ code: 1008 });
  });

  test('a directory that is not there, or is none, is told', async () => {
    await upload(join(dir, 'file'), '');
    for (const [name, code] of [
      ['missing', 'file_not_found'],
      ['file', 'not_a_directory'],
    ] as const) {
      await using client = await open({ path: join(dir, name) });
      expect(await client.rest()).toMatchObject([{ type: 'error', error: { code } }]);
    }
  });

  test('it takes a ticket, a well-formed query, a WebSocket, and no messages', async () => {
    const issued = await plane.fetch(`/v1/sandboxes/${id}/exec/ticket`, { method: 'POST' });
    const { ticket } = (await issued.json()) as ExecTicket;
    {
      await using client = await open({ path: dir, ticket }, {});
      expect(await client.next()).toEqual({ type: 'start' });
      client.send({ type: 'start' });
      expect((await client.rest()).at(-1)).toMatchObject({ error: { code: 'validation_failed' } });
    }
    await expect(open({ path: dir, ticket }, {})).rejects.toThrow('401');
    await expect(open({})).rejects.toThrow('400');
    await expect(open({ path: dir, recursive: 'yes' })).rejects.toThrow('400');
    const plain = await plane.fetch(at({ path: dir }));
    const { error } = (await plain.json()) as ErrorBody;
    expect([plain.status, error.code]).toEqual([400, 'malformed_request']);
  });

  test('a client that leaves ends it, and a pause does so with an error', async () => {
    const watching = await Promise.all(Array.from({ length: 64 }, () => open({ path: dir })));
    for (const client of watching) expect(await client.next()).toEqual({ type: 'start' });
    {
      await using refused = await open({ path: dir });
      expect((await refused.rest()).at(-1)).toMatchObject({ error: { code: 'sandbox_out_of_resources' } });
    }
    for (const client of watching) client.socket.close();
    const again = async () => {
      await using client = await open({ path: dir });
      return await client.next();
    };
    await expect.poll(again).toEqual({ type: 'start' });
    await using last = await open({ path: dir });
    expect(await last.next()).toEqual({ type: 'start' });
    await plane.fetch(`/v1/sandboxes/${id}/pause`, { method: 'POST' });
    expect((await last.rest()).at(-1)).toMatchObject({ error: { code: 'sandbox_not_running' } });
  });
});
