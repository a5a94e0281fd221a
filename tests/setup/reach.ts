/** Whether a TCP connection can be made, from where. */
import { connect } from 'node:net';
import type { Perch } from '../../packages/sdk/src/index.ts';

/** `silent`: nothing came back. `refused`: a reset, or word that nobody is there. */
export type Reach = 'open' | 'refused' | 'silent';

const waitMs = 2000;

/** `ADDRESS:PORT` → outcome, all tried at once from inside a sandbox. `source`: an address of its own to use. */
export async function reachFromGuest(
  perch: Perch,
  id: string,
  targets: string[],
): Promise<Record<string, Reach>> {
  const { stdout, stderr, exit_code } = await perch.sandboxes.exec(id, {
    cmd: 'python3',
    args: ['-c', probe, String(waitMs / 1000), ...targets],
    timeout_sec: 60,
  });
  if (exit_code !== 0) throw new Error(`the probe failed: ${stderr}`);
  return JSON.parse(stdout) as Record<string, Reach>;
}

/** The same for every target. */
export function all(targets: string[], reach: Reach): Record<string, Reach> {
  return Object.fromEntries(targets.map((target) => [target, reach]));
}

export async function reachFromHost(target: string): Promise<Reach> {
  const [host = '', port] = target.split(':');
  const { promise, resolve } = Promise.withResolvers<Reach>();
  const socket = connect({ host, port: Number(port), timeout: waitMs });
  socket.once('connect', () => resolve('open'));
  socket.once('error', () => resolve('refused'));
  socket.once('timeout', () => resolve('silent'));
  const reach = await promise;
  socket.destroy();
  return reach;
}

const probe = `
import concurrent.futures, json, socket, sys
def reach(target):
    host, port = target.rsplit(':', 1)
    try:
        socket.create_connection((host, int(port)), float(sys.argv[1])).close()
        return 'open'
    except TimeoutError:
        return 'silent'
    except OSError:
        return 'refused'
targets = sys.argv[2:]
with concurrent.futures.ThreadPoolExecutor(max(1, len(targets))) as pool:
    print(json.dumps(dict(zip(targets, pool.map(reach, targets)))))
`;
