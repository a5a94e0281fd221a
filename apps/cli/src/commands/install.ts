import type { Command } from 'commander';
import pc from 'picocolors';
import type { InstallEvent } from '../launcher/index.ts';
import type { Output } from '../output.ts';

interface Options {
  print: boolean;
  remove: boolean;
  start: boolean;
}

export function addInstall(program: Command, output: Output): void {
  program
    .command('install')
    .description('have systemd start Perch with the machine and keep it running')
    .requiredOption('--systemd', 'as units of systemd: perch-host.service and perchd.service')
    .option('--print', 'show the files that would be written, and change nothing', false)
    .option('--no-start', 'write the files, and neither enable nor start the units')
    .option('--remove', 'stop and remove the units; data, settings and sandboxes stay', false)
    .addHelpText(
      'after',
      `
Needs root. Settings of the environment (see perch up --help) are written to /etc/perch/settings.env, and those that
only perchd may know, PERCH_API_KEY and DATABASE_URL, to /etc/perch/secrets.env, both for root alone. A later run keeps
what they say; a setting that is set and empty takes its line away.

Run it again after an upgrade: it replaces what differs, and starts the daemons again. Sandboxes run on.`,
    )
    .action(async ({ print, remove, start }: Options) => {
      const { install, installable, uninstall } = await import('../launcher/index.ts');
      const report = (event: InstallEvent) => tell(output, event);
      if (remove) {
        await uninstall(process.env, report);
        output.line('There are no units of Perch on this machine.');
      } else if (print) {
        for (const file of await installable(process.env)) {
          output.value(file);
          output.line(`${pc.bold(`# ${file.path}`)}\n${file.text}`);
        }
      } else await install(process.env, start, report);
    });
}

function tell(output: Output, event: InstallEvent): void {
  output.value(event);
  switch (event.event) {
    case 'file':
      output.line(`${event.change.padEnd(9)}  ${event.path}`);
      break;
    case 'api_key':
      output.line(`\nYour API key, shown this once: ${pc.bold(event.key)}\nIt is kept in ${event.file}.`);
      break;
    case 'ready':
      output.line(
        event.started
          ? `Perch listens on ${pc.bold(event.url)}.`
          : `Nothing was to be done: Perch listens on ${pc.bold(event.url)} already.`,
      );
      break;
    case 'stopped':
      output.line('Stopped. Sandboxes run on.');
      break;
  }
}
