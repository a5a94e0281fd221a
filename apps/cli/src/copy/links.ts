/** What the links below a directory of a sandbox say, as they are: a listing tells where they lead in the end. */
import { limits } from '@perch/protocol';
import type { Perch } from '@perch/sdk';

/** Of all links together, bytes. What is beyond is not looked up. */
const mostBytes = 16 * 2 ** 20;

/** By the `keyOf` the path below `path`. Empty where the sandbox has no `find` of GNU's. */
export async function linksBelow(
  perch: Perch,
  id: string,
  path: string,
  signal: AbortSignal,
): Promise<Map<string, Buffer>> {
  const from = path.startsWith('/') ? path : `./${path}`;
  const find = {
    ...{ cmd: 'find', args: ['-H', from, '-type', 'l', '-printf', '%P\\0%l\\0'] },
    timeout_sec: limits.exec.timeoutSecMax,
  };
  await using stream = await perch.sandboxes.execStream(id, find, { signal });
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const event of stream) {
    if (event.type !== 'stdout') continue;
    bytes += event.data.byteLength;
    if (bytes > mostBytes) break;
    chunks.push(event.data);
  }
  const parts = Buffer.concat(chunks).toString('latin1').split('\0').slice(0, -1);
  const pairs = parts.flatMap((target, at): [string, Buffer][] =>
    at % 2 === 1 ? [[parts[at - 1] ?? '', Buffer.from(target, 'latin1')]] : [],
  );
  return new Map(pairs);
}
