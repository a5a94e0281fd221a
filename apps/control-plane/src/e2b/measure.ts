/** What a guest says that its machine uses. */
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

async function ask(guests: GuestPool, life: Life): Promise<Record<string, unknown>> {
  const port = guests.agentPort;
  const asked = guests.upstream(life).request(port, {
    path: '/metrics',
    headers: { host: 'localhost', 'x-access-token': life.accessToken },
    signal: AbortSignal.timeout(withinMs),
  });
  try {
    const text = await new Promise<string>((resolve, reject) => {
      asked.once('error', reject).once('response', (answer) => {
        const chunks: Buffer[] = [];
        let size = 0;
        answer.on('data', (chunk: Buffer) => {
          size += chunk.length;
          chunks.push(chunk);
          if (size > mostBytes) asked.destroy(new Error('it says too much'));
        });
        answer.once('error', reject).once('end', () => resolve(Buffer.concat(chunks).toString()));
      });
      asked.end();
    });
    const said: unknown = JSON.parse(text);
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
