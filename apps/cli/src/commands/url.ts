import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import { portNumber } from '../options.ts';
import { type Output, table } from '../output.ts';

export function addUrl(program: Command, output: Output): void {
  program
    .command('url')
    .description('print the URL of a port of a sandbox, or of all that programs listen on')
    .argument('<id>', 'sandbox')
    .argument('[port]', 'of the sandbox', portNumber)
    .addHelpText(
      'after',
      `
Browsers and curl find names below localhost by themselves. With PERCH_URL=https://… it is an https URL. A sandbox of
\`perch create\` lets only those to its ports who send its traffic token: standard error tells the header, and --json has
it. \`perch forward\` needs none.

Examples:
  curl "$(perch url ID 8080)"
  perch url ID                 what listens there`,
    )
    .action(async (id: string, port: number | undefined) => {
      const { ports } = new Perch().sandboxes;
      if (port === undefined) {
        const rows: string[][] = [];
        for await (const one of ports.all(id)) {
          output.value(one);
          rows.push([
            String(one.port),
            one.addresses.join(' '),
            one.url ?? '(loopback of the sandbox alone)',
          ]);
        }
        output.line(rows.length === 0 ? 'Nothing listens.' : table(['PORT', 'ADDRESSES', 'URL'], rows));
        return;
      }
      const { url, headers } = await ports.url(id, port);
      output.value({ url, headers });
      output.line(url);
      if (output.json) return;
      for (const [name, value] of Object.entries(headers)) {
        process.stderr.write(`Requests need a header: ${name}: ${value}\n`);
      }
    });
}
