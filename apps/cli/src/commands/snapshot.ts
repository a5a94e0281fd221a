import { printable } from '@perch/node-kit';
import { type LayerFormat, layerFormats } from '@perch/protocol';
import { Perch, type Snapshot } from '@perch/sdk';
import { type Command, Option } from 'commander';
import pc from 'picocolors';
import { forEach } from '../for-each.ts';
import { defined } from '../options.ts';
import { type Output, table } from '../output.ts';
import { mebibytes } from '../size.ts';
import { stagesLine } from '../timings.ts';
import { duration } from './ls.ts';
import { addImport } from './snapshot-import.ts';

export function addSnapshot(program: Command, output: Output): void {
  const snapshot = program
    .command('snapshot')
    .description('make, list and delete snapshots: sandboxes as they were, to create others from')
    .addHelpText(
      'after',
      `
Examples:
  perch snapshot create sbo2k3v9x1q7m4t8w5z0 --name with-tools
  perch create --template with-tools
  perch snapshot ls
  perch snapshot rm with-tools`,
    );
  addCreate(snapshot, output);
  addLs(snapshot, output);
  addFlatten(snapshot, output);
  addConvert(snapshot, output);
  addImport(snapshot, output);
  addRm(snapshot, output);
}

interface CreateOptions {
  name?: string;
  overwrite?: true;
  memory: boolean;
}

function addCreate(snapshot: Command, output: Output): void {
  snapshot
    .command('create')
    .description('make a snapshot of a running or paused sandbox, and print its name')
    .argument('<id>', 'sandbox')
    .option('-n, --name <name>', 'lower-case letters, digits, ".", "_", "-" (default: a new one)')
    .option('--overwrite', 'take the place of the snapshot of that name')
    .option('--no-memory', 'the disk alone: sandboxes that are created from it boot from that')
    .addHelpText(
      'after',
      `
Memory, processes and disk as they are. A running sandbox stands still for a moment and runs on; a paused one stays
paused. On a terminal it also says how long each stage took; with --json that is in timings_ms.

Example:
  perch snapshot create sbo2k3v9x1q7m4t8w5z0 --name with-tools --overwrite`,
    )
    .action(async (id: string, { name, overwrite, memory }: CreateOptions) => {
      const request = { sandbox_id: id, ...defined({ name }), ...(memory ? {} : { memory }) };
      const made = await new Perch().snapshots.create(request, defined({ overwrite }));
      output.value(made);
      output.line(made.name);
      if (output.json || !process.stdout.isTTY) return;
      process.stderr.write(pc.dim(`${stagesLine('made', made.timings_ms)}. `));
      process.stderr.write(pc.dim(`Try: perch create --template ${made.name}\n`));
    });
}

function addLs(snapshot: Command, output: Output): void {
  snapshot
    .command('ls')
    .description('list what sandboxes can be created from, by name')
    .option('--type <type>', '`base`: only images; `snapshot`: only snapshots')
    .addHelpText(
      'after',
      `
OWN is what goes when it goes, SHARED what others need too. With --json, one a line:
  perch snapshot ls --json --type snapshot | jq -r .name`,
    )
    .action(async ({ type }: { type?: Snapshot['type'] }) => {
      const snapshots: Snapshot[] = [];
      for await (const one of new Perch().snapshots.all({ type })) {
        output.value(one);
        snapshots.push(one);
      }
      if (snapshots.length === 0) output.line('There are none. `perch snapshot create ID` makes one.');
      else
        output.line(table(['NAME', 'TYPE', 'MACHINE', 'DISK', 'AGE', 'OWN', 'SHARED'], snapshots.map(row)));
    });
}

function addFlatten(snapshot: Command, output: Output): void {
  snapshot
    .command('flatten')
    .description('make the disks of snapshots files that need no image below them')
    .argument('<name...>', 'snapshots')
    .addHelpText(
      'after',
      `
Image and layers become one file, as sparse as they are; memory and processes stay as they were. It takes a while, and
sandboxes can be created from it meanwhile.

Example:
  perch snapshot flatten with-tools`,
    )
    .action(async (names: string[]) => {
      const { snapshots } = new Perch();
      await forEach(names, output, async (name) => {
        output.value(await snapshots.flatten(name));
        output.line(name);
      });
    });
}

function addConvert(snapshot: Command, output: Output): void {
  snapshot
    .command('convert')
    .description('write the disks of snapshots in the format of another kind of disk')
    .argument('<name...>', 'snapshots')
    .addOption(new Option('--to <format>', 'format').choices(layerFormats).makeOptionMandatory())
    .addHelpText(
      'after',
      `
A disk is layers over an image. A host with PERCH_ROOTFS=qcow2 writes them as qcow2, one with device-mapper as
dm-snapshot. Any host converts either way, and a host that finds the other kind converts it by itself when a sandbox
goes on from it: doing so beforehand saves that time. Snapshots whose disks stand alone (perch snapshot flatten) go to any
host as they are. disk_format in \`perch snapshot ls --json\` tells which is which.

Example:
  perch snapshot convert with-tools --to dm-snapshot`,
    )
    .action(async (names: string[], { to }: { to: LayerFormat }) => {
      const { snapshots } = new Perch();
      await forEach(names, output, async (name) => {
        output.value(await snapshots.convert(name, { to }));
        output.line(name);
      });
    });
}

function addRm(snapshot: Command, output: Output): void {
  snapshot
    .command('rm')
    .description('delete snapshots; sandboxes that were made from them live on')
    .argument('<name...>', 'snapshots')
    .addHelpText(
      'after',
      `
Example, all of them:
  perch snapshot rm $(perch snapshot ls --json --type snapshot | jq -r .name)`,
    )
    .action(async (names: string[]) => {
      const { snapshots } = new Perch();
      await forEach(names, output, async (name) => {
        await snapshots.delete(name);
        output.value({ name, deleted: true });
        output.line(name);
      });
    });
}

function row(one: Snapshot): string[] {
  const { name, type, vcpus, memory_mb, disk_mb, created_at, own_bytes, shared_bytes } = one;
  return [
    printable(name),
    type,
    vcpus === null ? '-' : `${vcpus} vCPU, ${memory_mb} MiB`,
    `${disk_mb} MiB`,
    duration(Date.now() - Date.parse(created_at)),
    mebibytes(own_bytes),
    mebibytes(shared_bytes),
  ];
}
