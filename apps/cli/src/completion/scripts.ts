import type { Command, Option } from 'commander';

export const shells = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof shells)[number];

/** Commands whose first argument is the id of a sandbox. */
const takeIds = [
  'exec',
  'shell',
  'ps',
  'attach',
  'kill',
  'pause',
  'resume',
  'fork',
  'history',
  'rm',
  'logs',
  'cp',
  'url',
  'forward',
];
/** Ids of the sandboxes there are; nothing when Perch does not answer. */
const ids = `perch ls --json 2>/dev/null | sed -n 's/^{"id":"\\([a-z0-9]*\\)".*/\\1/p'`;

/** Made from the commands themselves, so that it never lags behind them. */
export function completionScript(program: Command, shell: Shell): string {
  return { bash, zsh, fish }[shell](program);
}

function bash(program: Command): string {
  const cases = program.commands.map(
    (command) => `    ${command.name()}) words="${words(command).join(' ')}";;`,
  );
  return `# perch completion for bash. Load it with: source <(perch completion bash)
_perch() {
  local current="\${COMP_WORDS[COMP_CWORD]}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${program.commands.map((command) => command.name()).join(' ')}" -- "$current"))
    return
  fi
  case "\${COMP_WORDS[1]}" in
${cases.join('\n')}
  esac
  case "$current" in
    -*) ;;
    *) case "\${COMP_WORDS[1]}" in ${takeIds.join('|')}) words="$(${ids})";; esac;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _perch perch
`;
}

function zsh(program: Command): string {
  const commands = program.commands.map(
    (command) => `    '${command.name()}:${quiet(command.description())}'`,
  );
  const cases = program.commands.map((command) => {
    const options = optionsOf(command).map((option) => `'${option.long}[${quiet(option.description)}]'`);
    const below = command.commands.map((one) => one.name());
    const first = below.length > 0 ? [`'2:command:(${below.join(' ')})'`] : [];
    const rest = takeIds.includes(command.name()) ? `'*:sandbox:_perch_ids'` : `'*:file:_files'`;
    return `      ${command.name()}) _arguments ${[...options, ...first, rest].join(' ')};;`;
  });
  return `#compdef perch
# perch completion for zsh. Load it with: source <(perch completion zsh)
_perch_ids() {
  local -a found; found=(\${(f)"$(${ids})"})
  _alternative "ids:sandbox:($found)" 'files:file:_files'
}
_perch() {
  local -a commands; commands=(
${commands.join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
  else
    case "$words[2]" in
${cases.join('\n')}
    esac
  fi
}
compdef _perch perch
`;
}

function fish(program: Command): string {
  const lines = program.commands.flatMap((command) => [
    `complete -c perch -n __fish_use_subcommand -f -a ${command.name()} -d '${quiet(command.description())}'`,
    ...command.commands.map(
      (one) =>
        `complete -c perch -n '__fish_seen_subcommand_from ${command.name()}' -f -a ${one.name()} -d '${quiet(one.description())}'`,
    ),
    ...optionsOf(command).map((option) => {
      const short = option.short ? ` -s ${option.short.slice(1)}` : '';
      const long = option.long ? ` -l ${option.long.slice(2)}` : '';
      return `complete -c perch -n '__fish_seen_subcommand_from ${command.name()}'${short}${long} -d '${quiet(option.description)}'`;
    }),
  ]);
  return `# perch completion for fish. Load it with: perch completion fish | source
${lines.join('\n')}
complete -c perch -n '__fish_seen_subcommand_from ${takeIds.join(' ')}' -a "(${ids})"
`;
}

/** The commands below a command, and the options of all of them. */
function words(command: Command): string[] {
  const options = optionsOf(command).flatMap(({ long }) => long ?? []);
  return [...command.commands.map((one) => one.name()), ...options, '--json', '--help'];
}

/** Those of a command and of the commands below it, each name once. */
function optionsOf(command: Command): Option[] {
  const all = [command, ...command.commands].flatMap((one) => [...one.options]);
  return all.filter((option, index) => all.findIndex(({ long }) => long === option.long) === index);
}

/** Text between single quotes and brackets of a shell script. */
function quiet(text: string): string {
  return text.replace(/['`\\[\]:]/g, '');
}
