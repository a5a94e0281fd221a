/** What a guest says that its machine uses, and that it is well. */
import { PerchError } from '@perch/protocol';
import type { GuestPool } from '../guests/index.ts';
import type { Life } from '../sandboxes/index.ts';

const withinMs = 5_000;
const mostBytes = 16 * 1024;

/** Bytes, and percent of all processors. A hostile guest may say anything, but in numbers. */
export async function measure(guests: GuestPool, life: Life) {
  const said = await ask(guests, life);
  const number = (name: string) => {
    const value = said[name];
    return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : 0;
  };
  const at = new Date();
  return {
    timestamp: at.toISOString(),
    timestampUnix: Math.floor(at.getTime() / 1000),
    cpuCount: number('cpu_count'),
    cpuUsedPct: number('cpu_used_pct'),
    memUsed: number('mem_used'),
    memTotal: number('mem_total'),
    memCache: number('mem_cache'),
    diskUsed: number('disk_used'),
    diskTotal: number('disk_total'),
  };
}

/** @throws PerchError guest_unavailable when it does not say in time that it is well */
export async function expectHealthy(guests: GuestPool, life: Life): Promise<void> {
  const said = await get(guests, life, '/health').catch(() => undefined);
  if (said?.status === 204) return;
  throw new PerchError('guest_unavailable', 'The guest agent does not answer: the sandbox runs on.', {
    id: life.id,
  });
}

async function ask(guests: GuestPool, life: Life): Promise<Record<string, unknown>> {
  try {
    const said: unknown = JSON.parse((await get(guests, life, '/metrics')).text);
    return said !== null && typeof said === 'object' ? (said as Record<string, unknown>) : {};
  } catch (cause) {
    throw new PerchError(
      'guest_unavailable',
      'The guest does not say what it uses.',
      { id: life.id },
      { cause },
    );
  }
}

function get(guests: GuestPool, life: Life, path: string): Promise<{ status: number; text: string }> {
  const asked = guests.upstream(life).request(guests.agentPort, {
    path,
    headers: { host: 'localhost', 'x-access-token': life.accessToken },
    signal: AbortSignal.timeout(withinMs),
  });
  return new Promise((resolve, reject) => {
    asked.once('error', reject).once('response', (answer) => {
      const chunks: Buffer[] = [];
      let size = 0;
      answer.on('data', (chunk: Buffer) => {
        size += chunk.length;
        chunks.push(chunk);
        if (size > mostBytes) asked.destroy(new Error('it says too much'));
      });
      const whole = () => ({ status: answer.statusCode ?? 0, text: Buffer.concat(chunks).toString() });
      answer.once('error', reject).once('end', () => resolve(whole()));
    });
    asked.end();
  });
}
