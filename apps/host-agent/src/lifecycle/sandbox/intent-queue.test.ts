import { fc, test } from '@fast-check/vitest';
import { expect } from 'vitest';
import { type Intent, IntentQueue, type Queued } from './intent-queue.ts';

const intent: fc.Arbitrary<Intent> = fc.oneof(
  fc.constant<Intent>({ kind: 'create', generation: 1 }),
  fc.constant<Intent>({ kind: 'exited', generation: 1, reason: 'x' }),
  fc.constant<Intent>({ kind: 'exited', generation: 2, reason: 'x' }),
  fc.constant<Intent>({ kind: 'destroy' }),
);
const operation = fc.oneof(intent, fc.constantFrom('take' as const, 'done' as const));

test.prop([fc.array(operation, { maxLength: 40 })])(
  'every waiter is answered exactly once: done, refused or dropped as stale',
  (operations) => {
    const queue = new IntentQueue<number>();
    const put = new Set<number>();
    const settled: number[] = [];
    const stale = new Set<number>();
    let current: Queued<number> | undefined;
    let next = 0;
    const done = () => {
      if (current) queue.done(current);
      settled.push(...(current?.waiters ?? []));
      current = undefined;
    };
    const take = () => {
      done();
      current = queue.take(1);
      if (current?.intent.kind === 'exited') expect(current.intent.generation).toBe(1);
      return current !== undefined;
    };
    for (const step of operations) {
      if (step === 'take') take();
      else if (step === 'done') done();
      else {
        const id = next++;
        const result = queue.put(step, id);
        settled.push(...result.refused);
        if (current?.intent.kind === 'destroy')
          expect(result.outcome).toBe(step.kind === 'destroy' ? 'joined' : 'refused');
        if (result.outcome === 'refused') settled.push(id);
        else if (step.kind === 'exited' && step.generation !== 1) stale.add(id);
        put.add(id);
      }
    }
    while (take());
    expect(new Set(settled).size).toBe(settled.length);
    for (const id of put) expect(settled.includes(id) || stale.has(id)).toBe(true);
  },
);

test.prop([fc.array(intent, { maxLength: 20 })])('a destroy is next as soon as it is in', (intents) => {
  const queue = new IntentQueue<number>();
  for (const [waiter, one] of intents.entries()) queue.put(one, waiter);
  const first = queue.take(1);
  if (intents.some((one) => one.kind === 'destroy')) {
    expect(first?.intent.kind).toBe('destroy');
    expect(queue.length).toBe(0);
    expect(queue.put({ kind: 'create', generation: 1 }).outcome).toBe('refused');
  } else {
    const expected = intents.find((one) => one.kind !== 'exited' || one.generation === 1);
    expect(first?.intent).toEqual(expected);
  }
});
