import { Perch } from '@perch/sdk';
import type { Command } from 'commander';
import pc from 'picocolors';
import { createdOrNone } from '../created.ts';
import { defined, keyValue, wholeNumber } from '../options.ts';
import type { Output } from '../output.ts';
import { addShape, type Shape, shapeOf } from '../shape.ts';

interface Options extends Shape {
  timeout?: number;
  timeoutMode?: 'idle' | 'fixed';
  onTimeout?: 'destroy' | 'pause';
  pauseMemory: boolean;
  autoResume?: true;
  metadata?: Record<string, string>;
  env?: Record<string, string>;
}

export function addCreate(program: Command, output: Output): void {
  const command = program.command('create').description('create a sandbox and print its id');
  addShape(command)
    .option('--timeout <seconds>', 'life (default: 300)', wholeNumber('seconds'))
    .option('--timeout-mode <mode>', '`idle`: activity prolongs it; `fixed`: nothing does (default: idle)')
    .option('--on-timeout <what>', '`destroy` it when its time is over, or `pause` it (default: destroy)')
    .option('--no-pause-memory', 'keep only the disk when its time is over: a resume boots the guest from it')
    .option('--auto-resume', 'resume it, when it is paused, for the first command or transfer that needs it')
    .option('-l, --metadata <key=value>', 'a label; may be given several times', keyValue)
    .addHelpText(
      'after',
      `
Examples:
  perch create
  id=$(perch create --memory 1024 --timeout 3600 --metadata job=42)
  perch exec "$id" -- python3 -c 'print(6 * 7)'

A sandbox that sleeps when it is idle, costs only disk then, and wakes for the next command:
  perch create --on-timeout pause --auto-resume`,
    )
    .action(async (options: Options) => {
      const { timeout, timeoutMode, onTimeout, pauseMemory, autoResume, metadata, env } = options;
      const sandbox = await createdOrNone(
        new Perch(),
        defined({
          ...shapeOf(options),
          ...{ metadata, env },
          timeout_sec: timeout,
          timeout_mode: timeoutMode,
          on_timeout: onTimeout,
          pause_memory: pauseMemory ? undefined : false,
          auto_resume: autoResume,
        }),
      );
      output.value(sandbox);
      output.line(sandbox.id);
      if (output.json || !process.stdout.isTTY) return;
      const { id, vcpus, memory_mb, timeout_sec, timeout_mode, on_timeout } = sandbox;
      const until =
        timeout_mode === 'idle' ? `${timeout_sec} s after its last activity` : `in ${timeout_sec} s`;
      const ends = on_timeout === 'pause' ? 'pauses' : 'ends';
      process.stderr.write(
        pc.dim(`${vcpus} vCPU, ${memory_mb} MiB; ${ends} ${until}. Try: perch exec ${id} -- uname -a\n`),
      );
    });
}
