import type { HostClient } from '@perch/host-client';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import type { SandboxRow } from '../database/index.ts';
import { Destroyer } from './destroy.ts';
import { Life } from './life.ts';
import type { Lives } from './lives.ts';
import type { Operations } from './operations.ts';

const lifeOf = (generation: number, status: SandboxRow['status']) =>
  new Life({ id: 'sb0', generation, status } as SandboxRow);

test('a destroy whose write comes after the end of a resume destroys the next life', async () => {
  const resumed = lifeOf(2, 'running');
  let current = lifeOf(1, 'resuming');
  const written: [number, string][] = [];
  const destroyed: string[] = [];
  const lives: Partial<Lives> = {
    get: () => current,
    remove: () => {},
    transition: async (life, _expected, { status }) => {
      // The resume was written first.
      if (current.generation === 1) current = resumed;
      if (life.generation !== current.generation) return undefined;
      written.push([life.generation, status]);
      return { status } as SandboxRow;
    },
  };
  const destroyer = new Destroyer({
    lives: lives as Lives,
    operations: { kind: () => 'resume' } as unknown as Operations,
    hosts: {
      of: () => ({ destroy: async (id: string) => void destroyed.push(id) }) as unknown as HostClient,
    },
    log: pino({ level: 'silent' }),
  });
  await destroyer.destroy('sb0', 'asked for');
  expect(written).toEqual([
    [2, 'destroying'],
    [2, 'destroyed'],
  ]);
  expect(destroyed).toEqual(['sb0']);
});
