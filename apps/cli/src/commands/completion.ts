import { Argument, type Command } from 'commander';
import { completionScript, type Shell, shells } from '../completion/index.ts';

export function addCompletion(program: Command): void {
  program
    .command('completion')
    .description('print a script that completes perch commands in a shell')
    .addArgument(new Argument('<shell>', 'shell').choices(shells))
    .addHelpText(
      'after',
      `
Examples:
  source <(perch completion bash)                                in ~/.bashrc
  source <(perch completion zsh)                                 in ~/.zshrc
  perch completion fish > ~/.config/fish/completions/perch.fish`,
    )
    .action((shell: Shell) => {
      process.stdout.write(completionScript(program, shell));
    });
}
