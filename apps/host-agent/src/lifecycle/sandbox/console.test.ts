/** A monitor that stands still: see testing.ts. */
import { expect, test } from 'vitest';
import { host, id, nothingLeft, request } from '../testing.ts';

test('a monitor that does not answer holds up neither the look at a console nor the end of the sandbox', async () => {
  await using h = await host();
  await h.lifecycle.create(id, request);
  expect(String(await h.lifecycle.console(id))).toBe('console');
  h.machine.consoleGate = new Promise(() => {});
  expect(String(await h.lifecycle.console(id))).toMatch(/^kept\n\[perch\] .*may not be the newest/);
  await h.lifecycle.destroy(id);
  nothingLeft(h.machine, h.vmsDir);
});
