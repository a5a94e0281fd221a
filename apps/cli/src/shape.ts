/** What a new sandbox is made of: the options of the commands that make one. */
import type { CreateSandbox } from '@perch/protocol';
import type { Command } from 'commander';
import { defined, keyValue, wholeNumber } from './options.ts';

export interface Shape {
  template?: string;
  vcpus?: number;
  /** MiB */
  memory?: number;
  /** MiB */
  disk?: number;
}

export function addShape(command: Command): Command {
  return command
    .option('-t, --template <name>', 'what to start from (default: base)')
    .option('-c, --vcpus <n>', 'virtual CPUs (default: 1)', wholeNumber('CPUs'))
    .option('-m, --memory <mib>', 'memory (default: 512)', wholeNumber('MiB'))
    .option('-d, --disk <mib>', 'disk (default: 5120)', wholeNumber('MiB'))
    .option('-e, --env <key=value>', 'an environment variable; may be given several times', keyValue);
}

/** As a create asks for it. */
export function shapeOf({ template, vcpus, memory, disk }: Shape): CreateSandbox {
  return defined({ template, vcpus, memory_mb: memory, disk_mb: disk });
}
