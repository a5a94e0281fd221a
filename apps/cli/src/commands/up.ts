import { readSettings } from '@perch/protocol';
import type { Command } from 'commander';
import pc from 'picocolors';
import type { UpEvent } from '../launcher/index.ts';
import type { Output } from '../output.ts';

export function addUp(program: Command, output: Output): void {
  program
    .command('up')
    .description('start Perch on this machine and keep it running')
    .addHelpText(
      'after',
      `
Runs in the foreground as root. Ctrl-C stops the daemons; sandboxes run on, and the next start finds them again.

Settings (environment variables):
  PERCH_LISTEN     address of the API            127.0.0.1:7070
  PERCH_DATA_DIR   all state                     /var/lib/perch
  PERCH_NETWORK    addresses of the sandboxes    10.11.0.0/16
  PERCH_DNS        resolver for the sandboxes    the machine's own
  PERCH_API_KEY    the first API key             a random one, shown once
  DATABASE_URL     a PostgreSQL of your own      one that Perch brings`,
    )
    .action(async () => {
      const { up } = await import('../launcher/index.ts');
      await up(readSettings(), (event) => report(output, event));
    });
}

function report(output: Output, event: UpEvent): void {
  output.value(event);
  switch (event.event) {
    case 'step':
      output.line(`${pc.green('✓')} ${event.name} (${(event.ms / 1000).toFixed(1)} s)`);
      break;
    case 'crash':
      output.line(`${pc.yellow('!')} ${event.daemon} ended (${event.how}); it is started again`);
      break;
    case 'certificate':
      output.line(`${pc.yellow('!')} the certificate for TLS is not renewed: ${event.problem}`);
      break;
    case 'api_key':
      output.line(`\nYour API key, shown this once: ${pc.bold(event.key)}\nIt is kept in ${event.file}.`);
      break;
    case 'ready':
      output.line(`
Perch listens on ${pc.bold(event.url)} (documentation: ${event.url}/docs)
To try it in a browser: ${event.url}/test

In another terminal:
  npm run --silent perch -- create
  npm run --silent perch -- exec ID -- python3 -c 'print(6 * 7)'

Ctrl-C stops Perch; sandboxes run on.`);
      break;
    case 'stopped':
      output.line('Stopped.');
      break;
  }
}
