import { fc, test } from '@fast-check/vitest';
import { expect } from 'vitest';
import { type Intent, IntentQueue } from './intent-queue.ts';

const intent: fc.Arbitrary<Intent> = fc.oneof(
  fc.constant<Intent>({ kind: 'create', generation: 1 }),
  fc.constant<Intent>({ kind: 'exited', generation: 1, reason: 'x' }),
  fc.constant<Intent>({ kind: 'exited', generation: 2, reason: 'x' }),
  fc.constant<Intent>({ kind: 'destroy' }),
);
const operation = fc.oneof(intent, fc.constant('take' as const));

test.prop([fc.array(operation, { maxLength: 40 })])(
  'every waiter is answered exactly once: taken, refused or dropped as stale',
  (operations) => {
    const queue = new IntentQueue<number>();
    const put = new Set<number>();
    const settled: number[] = [];
    const stale = new Set<number>();
    let destroyTaken = false;
    let next = 0;
    const take = () => {
      const item = queue.take(1);
      if (!item) return false;
      settled.push(...item.waiters);
      if (item.intent.kind === 'destroy') destroyTaken = true;
      else expect(destroyTaken).toBe(false);
      if (item.intent.kind === 'exited') expect(item.intent.generation).toBe(1);
      return true;
    };
    for (const step of operations) {
      if (step === 'take') {
        take();
        continue;
      }
      const id = next++;
      const result = queue.put(step, id);
      settled.push(...result.refused);
      if (result.outcome === 'refused') settled.push(id);
      else if (result.outcome === 'joined' && destroyTaken) stale.add(id);
      else if (step.kind === 'exited' && step.generation !== 1) stale.add(id);
      put.add(id);
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
