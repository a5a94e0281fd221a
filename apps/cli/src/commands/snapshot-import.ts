import { createReadStream } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { basename } from 'node:path';
import { printable } from '@perch/node-kit';
import {
  type HostSnapshotImport,
  type ImportFacts,
  readSettings,
  templateNamePattern,
} from '@perch/protocol';
import { type Command, InvalidArgumentError } from 'commander';
import { CliError } from '../errors.ts';
import { defined, wholeNumber } from '../options.ts';
import type { Output } from '../output.ts';
import { localEnvironment } from '../systemd/index.ts';

interface Options {
  name?: string;
  overwrite?: true;
  vcpus?: number;
  monitor?: ImportFacts['monitor'];
  cpu?: string;
  kernelId?: string;
  initramfsId?: string;
  tokenFile?: string;
}

export function addImport(snapshot: Command, output: Output): void {
  snapshot
    .command('import')
    .description('make a snapshot of a directory that another Perch or an older one left, and print its name')
    .argument('<directory>', 'on this machine; it is only read')
    .option('-n, --name <name>', 'lower-case letters, digits, ".", "_", "-" (default: that of the directory)')
    .option('--overwrite', 'take the place of the snapshot of that name')
    .option('--vcpus <n>', 'processors of its machine', wholeNumber('processors'))
    .option('--monitor <monitor>', 'what took it, as kind/version/accelerator: qemu/10.0.2/tcg', monitorOf)
    .option('--cpu <fingerprint>', 'processor of the machine that it was taken on')
    .option('--kernel-id <sha256>', 'kernel that its guest runs')
    .option('--initramfs-id <sha256>', 'initramfs, with the agent, that its guest runs')
    .option('--token-file <file>', 'where the access token of its guest is; "-" is the standard input')
    .addHelpText(
      'after',
      `
For root, while Perch runs. The directory holds snapfile, memfile, memfile.header, a memfile.BUILD for each other build
that the header names, and the disk: rootfs.ext4, or rootfs.cow with rootfs.meta and the layers that it names.

With a manifest.json, as \`snapshots/NAME\` of another Perch has it, every byte is checked and taken as it is. Without
one (the older layout) all that can be checked is checked, memory and disk size are read from it, and what it does not
say comes from the options, else from this host: what was assumed is printed. The image below rootfs.cow is the one of
this host, or rootfs.base. The token is in identity.json, or in the file that --token-file names.

On failure nothing is kept. With --json: the snapshot, and what was assumed.

Examples:
  sudo perch snapshot import /mnt/backup/with-tools
  sudo perch snapshot import /mnt/old/web --name web --vcpus 2 --token-file - < token`,
    )
    .action(async (directory: string, options: Options) => {
      const { hostSocket } = await import('../launcher/index.ts');
      if (process.getuid?.() !== 0)
        throw new CliError('Only root may import snapshots.', 'Put sudo before it.');
      const host = hostSocket(readSettings(await localEnvironment()).dataDir);
      if (!(await host.answers())) {
        throw new CliError(
          'The host agent of this data directory does not answer.',
          'Start it: sudo perch up',
        );
      }
      const { snapshot: made, assumed } = await host.import(await requestOf(directory, options));
      output.value({ ...made, assumed });
      output.line(made.name);
      if (output.json || assumed.length === 0) return;
      const facts = assumed.map(({ fact, value }) => `  ${fact}: ${printable(value)}\n`);
      process.stderr.write(`It does not say this, so it was taken from this host:\n${facts.join('')}`);
    });
}

async function requestOf(given: string, options: Options): Promise<HostSnapshotImport> {
  const directory = await realpath(given).catch((cause: Error) => {
    throw new CliError(`${given} cannot be imported: ${cause.message}`, 'Name a directory.', { cause });
  });
  const { name = basename(directory), overwrite = false, vcpus, monitor, cpu, tokenFile } = options;
  if (!new RegExp(templateNamePattern).test(name)) {
    throw new CliError(
      `${JSON.stringify(name)} is no name of a snapshot.`,
      'Choose one of lower-case letters, digits, ".", "_", "-" that begins with a letter or digit: --name NAME',
    );
  }
  const { kernelId: kernel_content_id, initramfsId: initramfs_content_id } = options;
  const facts = defined({ vcpus, monitor, cpu, kernel_content_id, initramfs_content_id });
  const access_token = tokenFile === undefined ? undefined : await readToken(tokenFile);
  return { name, overwrite, directory, facts, ...defined({ access_token }) };
}

const maxTokenBytes = 1024;

/** A secret is in no argument, which others on the machine can read. */
async function readToken(file: string): Promise<string> {
  const input = file === '-' ? process.stdin : createReadStream(file, { end: maxTokenBytes + 1 });
  let text = '';
  try {
    for await (const chunk of input) {
      text += chunk;
      if (text.length > maxTokenBytes + 1) break;
    }
  } catch (cause) {
    throw new CliError(
      `${file} cannot be read: ${(cause as Error).message}`,
      'Name a file that holds the token.',
    );
  }
  const token = text.replace(/\r?\n$/, '');
  if (/^[!-~]+$/.test(token) && token.length <= maxTokenBytes) return token;
  const what = file === '-' ? 'The standard input' : file;
  throw new CliError(`${what} does not hold one line with a token.`, 'A token is printable, without spaces.');
}

function monitorOf(text: string): ImportFacts['monitor'] {
  const match = /^(qemu|firecracker)\/([^/]+)\/(kvm|tcg)$/.exec(text);
  if (!match) throw new InvalidArgumentError('Write it as qemu/10.0.2/tcg.');
  const [, kind, version, accelerator] = match;
  return { kind, version, accelerator } as ImportFacts['monitor'];
}
