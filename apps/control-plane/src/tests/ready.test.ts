/** The numbers of ready guests, as callers of the API set and see them. The guests themselves are the host's. */
import { type ErrorBody, ReadyGuestsList } from '@perch/protocol';
import { Check } from 'typebox/value';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestPlane } from '../testing/index.ts';

let plane: TestPlane;
beforeAll(async () => {
  plane = await TestPlane.start();
}, 60_000);
afterAll(() => plane[Symbol.asyncDispose]());

const pin = (template: string, json: unknown) => plane.fetch(`/v1/templates/${template}/ready`, { json });

test('a number without a shape is pinned for the shape that a create without wishes has', async () => {
  const answer = await pin('base', { count: 4 });
  expect(answer.status).toBe(200);
  const shape = { template: 'base', vcpus: 1, memory_mb: 512, disk_mb: 5120 };
  expect(await answer.json()).toMatchObject({ ...shape, pinned: 4 });
  expect(plane.host.pinned.at(-1)).toEqual({ ...shape, count: 4 });
  await pin('base', { count: null, memory_mb: 1024 });
  expect(plane.host.pinned.at(-1)).toEqual({ ...shape, memory_mb: 1024, count: null });
  const list: unknown = await (await plane.fetch('/v1/ready')).json();
  expect(Check(ReadyGuestsList, list)).toBe(true);
  expect(list).toMatchObject({ items: [{ pinned: 4 }, { pinned: null }] });
});

test('for a snapshot its own shape is, and no other', async () => {
  const { id } = await plane.create({ memory_mb: 256 });
  const made = await plane.fetch('/v1/snapshots', { json: { sandbox_id: id, name: 'mine' } });
  expect(made.status).toBe(201);
  expect((await pin('mine', { count: 1 })).status).toBe(200);
  expect(plane.host.pinned.at(-1)).toMatchObject({ template: 'mine', memory_mb: 256, count: 1 });
  const refused = await pin('mine', { count: 1, memory_mb: 512 });
  expect([refused.status, ((await refused.json()) as ErrorBody).error.code]).toEqual([400, 'shape_mismatch']);
});

test.each([
  ['base', { count: -1 }, 400, 'validation_failed'],
  ['base', { count: 1001 }, 400, 'validation_failed'],
  ['base', { count: '4' }, 400, 'validation_failed'],
  ['base', {}, 400, 'validation_failed'],
  ['base', { count: 1, size: 1 }, 400, 'validation_failed'],
  ['base', { count: 1, vcpus: 17 }, 400, 'validation_failed'],
  ['base', { count: 1, disk_mb: 64 }, 400, 'disk_too_small'],
  ['base', { count: 9 }, 409, 'too_many_ready'],
  ['nope', { count: 1 }, 404, 'template_not_found'],
  ['-', { count: 1 }, 400, 'validation_failed'],
])('of %s %j is %i', async (template, body, status, code) => {
  const before = plane.host.pinned.length;
  const answer = await pin(template, body);
  expect([answer.status, ((await answer.json()) as ErrorBody).error.code]).toEqual([status, code]);
  expect(plane.host.pinned.length).toBe(before);
});
