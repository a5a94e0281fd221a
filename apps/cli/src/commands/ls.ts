import { printable } from '@perch/node-kit';
import { type Sandbox, sandboxStatuses } from '@perch/protocol';
import { Perch } from '@perch/sdk';
import { type Command, Option } from 'commander';
import { keyValue } from '../options.ts';
import { type Output, table } from '../output.ts';
import { readyTable } from '../ready-table.ts';

interface Options {
  all?: true;
  status?: string;
  metadata?: Record<string, string>;
  ready?: true;
}

export function addLs(program: Command, output: Output): void {
  program
    .command('ls')
    .description('list sandboxes, the newest first')
    .option('-a, --all', 'destroyed ones, too')
    .option(
      '-s, --status <status>',
      `only of this status, or of several with commas: ${sandboxStatuses.join(', ')}`,
    )
    .option('-l, --metadata <key=value>', 'only with this label; may be given several times', keyValue)
    .addOption(
      new Option('--ready', 'instead of sandboxes the guests that stand ready for a create').conflicts([
        ...['all', 'status', 'metadata'],
      ]),
    )
    .addHelpText(
      'after',
      `
With --json, one sandbox a line:
  perch ls --json --status running | jq -r .id

Ready guests, by template and shape: WANTED are to stand ready, as many as were PINNED (perch template ready) or as the
creates of the last minutes want. HITS are creates that took one over, MISSES those that found none.
  perch ls --ready`,
    )
    .action(async ({ all, status, metadata, ready }: Options) => {
      if (ready) {
        await listReady(output);
        return;
      }
      // The server checks the names, and says which there are.
      const statuses = (status?.split(',') ?? (all ? [...sandboxStatuses] : undefined)) as
        | Sandbox['status'][]
        | undefined;
      const sandboxes: Sandbox[] = [];
      for await (const sandbox of new Perch().sandboxes.all({ status: statuses, metadata })) {
        output.value(sandbox);
        sandboxes.push(sandbox);
      }
      if (sandboxes.length === 0) output.line('There are no sandboxes. `perch create` makes one.');
      else
        output.line(
          table(
            ['ID', 'STATUS', 'TEMPLATE', 'VCPUS', 'MEMORY', 'AGE', 'ENDS IN', 'LABELS'],
            sandboxes.map(row),
          ),
        );
    });
}

async function listReady(output: Output): Promise<void> {
  const guests = await new Perch().templates.ready();
  for (const one of guests) output.value(one);
  if (guests.length === 0) output.line('No guests stand ready. `perch template ready` sets how many do.');
  else output.line(readyTable(guests));
}

function row(sandbox: Sandbox): string[] {
  const { id, status, reason, template, vcpus, memory_mb, created_at, expires_at, metadata } = sandbox;
  return [
    id,
    reason ? `${status} (${printable(reason)})` : status,
    template,
    String(vcpus),
    `${memory_mb} MiB`,
    duration(Date.now() - Date.parse(created_at)),
    expires_at && status === 'running' ? duration(Date.parse(expires_at) - Date.now()) : '-',
    printable(
      Object.entries(metadata)
        .map(([key, value]) => `${key}=${value}`)
        .join(' '),
    ),
  ];
}

/** Of the two largest units, such as `2 h 5 min`. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const [minutes, hours, days] = [
    Math.floor(seconds / 60),
    Math.floor(seconds / 3600),
    Math.floor(seconds / 86_400),
  ];
  if (days > 0) return `${days} d ${hours % 24} h`;
  if (hours > 0) return `${hours} h ${minutes % 60} min`;
  if (minutes > 0) return `${minutes} min ${seconds % 60} s`;
  return `${seconds} s`;
}
