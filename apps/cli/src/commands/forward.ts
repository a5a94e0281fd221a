import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import { forward, type Mapping, mapping } from '../forward/index.ts';
import { type Output, reportError } from '../output.ts';

export function addForward(program: Command, output: Output): void {
  program
    .command('forward')
    .description('lead ports of this machine to ports of a sandbox')
    .argument('<id>', 'sandbox')
    .argument('<ports...>', 'LOCAL:PORT, or PORT for both; LOCAL 0 is a free one', mapping)
    .option('--address <address>', 'of this machine to listen on', '127.0.0.1')
    .addHelpText(
      'after',
      `
Any bytes over TCP: a browser, a database client, ssh. Runs until Ctrl-C, which ends the connections. Whoever reaches the
address needs no key. The sandbox lives on for as long as a connection is open.

Example:
  perch forward ID 8080:80 5432`,
    )
    .action(async (id: string, mappings: Mapping[], { address }: { address: string }) => {
      const perch = new Perch();
      // Before anybody connects: a sandbox that is not there is told here.
      await perch.sandboxes.get(id);
      await using all = new AsyncDisposableStack();
      const failed = (error: unknown) => void reportError(error, output.json);
      for (const one of mappings) {
        const made = all.use(await forward(perch, id, one, address, failed));
        output.value({ event: 'listening', address: made.address, port: made.port });
        output.line(`${made.address} leads to port ${made.port} of ${id}`);
      }
      await interrupted();
    });
}

function interrupted(): Promise<void> {
  return new Promise((resolve) => {
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(name, () => resolve());
  });
}
