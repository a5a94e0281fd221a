import { expect, test } from 'vitest';
import { Tickets } from './tickets.ts';

const caller = { keyId: 'key1' };

test('a ticket opens one connection', () => {
  const tickets = new Tickets();
  const { ticket } = tickets.issue('sb1', caller);
  expect(tickets.redeem(ticket, 'sb1')).toEqual(caller);
  expect(tickets.redeem(ticket, 'sb1')).toBeUndefined();
});

test('a ticket is bound to its sandbox, and a try with another uses it up', () => {
  const tickets = new Tickets();
  const { ticket } = tickets.issue('sb1', caller);
  expect(tickets.redeem(ticket, 'sb2')).toBeUndefined();
  expect(tickets.redeem(ticket, 'sb1')).toBeUndefined();
});

test('a ticket lives for a minute', () => {
  let now = 1_000;
  const tickets = new Tickets(() => now);
  const early = tickets.issue('sb1', caller);
  const late = tickets.issue('sb1', caller);
  now += 59_999;
  expect(tickets.redeem(early.ticket, 'sb1')).toEqual(caller);
  now += 1;
  expect(tickets.redeem(late.ticket, 'sb1')).toBeUndefined();
});

test('tickets that nobody uses do not fill the memory', () => {
  const tickets = new Tickets();
  const first = tickets.issue('sb1', caller);
  for (let i = 0; i < 10_000; i++) tickets.issue('sb1', caller);
  expect(tickets.redeem(first.ticket, 'sb1')).toBeUndefined();
});
