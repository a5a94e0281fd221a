/** `perch shell` in a terminal, which `script` of util-linux makes. */
import { execFile, spawn } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { CommandLine } from './setup/command-line.ts';
import { cli } from './setup/perch-instance.ts';
import { newSandbox, sharedPerch } from './setup/sandbox.ts';
import { shared } from './setup/shared.ts';

const run = promisify(execFile);

/** A terminal with a program in it. */
class Terminal implements AsyncDisposable {
  readonly ended: Promise<number | null>;
  readonly #child;
  #shown = '';
  #wake = Promise.withResolvers<void>();

  constructor(command: string) {
    this.#child = spawn('script', ['-qec', command, '/dev/null'], {
      env: { ...process.env, ...shared.env, TERM: 'xterm' },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#shown += text;
      this.#wake.resolve();
    });
    this.ended = new Promise((resolve) => this.#child.once('close', (code) => resolve(code)));
  }

  type(text: string): void {
    this.#child.stdin.write(text);
  }

  /** Up to and with the text, which has to come. */
  async until(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const found = pattern.exec(this.#shown);
      if (found) {
        this.#shown = this.#shown.slice(found.index + found[0].length);
        return found;
      }
      this.#wake = Promise.withResolvers();
      await this.#wake.promise;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ended;
  }
}

test('perch shell is a terminal: its size, colours, characters, Ctrl-C and exit code are the shell’s', async () => {
  await using sandbox = await newSandbox(sharedPerch());
  const shell = `stty rows 33 cols 101; tty; exec '${process.execPath}' '${cli}' shell ${sandbox.id}`;
  await using terminal = new Terminal(shell);
  const [, tty = ''] = await terminal.until(/(\/dev\/pts\/\d+)/);
  terminal.type('PS1=; stty -echo; stty size; echo $TERM\n');
  await terminal.until(/33 101\r\nxterm-256color\r\n/);
  terminal.type("printf '\\033[31mr\\303\\266t\\033[0m %s\\n' 🦜\n");
  await terminal.until(/\x1b\[31mröt\x1b\[0m 🦜\r\n/);
  const trap = 'trap "echo inter$0; exit" INT; echo re""ady; while :; do sleep 0.1; done';
  terminal.type(`sh -c '${trap}' rupted\n`);
  await terminal.until(/ready/);
  terminal.type('\u0003');
  await terminal.until(/interrupted/);
  await run('stty', ['-F', tty, 'rows', '20', 'cols', '77']);
  terminal.type('until [ "$(stty size)" = "20 77" ]; do :; done; echo res""ized\n');
  await terminal.until(/resized/);
  terminal.type('exit 6\n');
  expect(await terminal.ended).toBe(6);
});

test('perch shell says that it needs a terminal', async () => {
  const { code, stderr } = await new CommandLine().run(['shell', 'sandbox']);
  expect(code).toBe(125);
  expect(stderr).toMatch(/no terminal[\s\S]*perch exec/);
});

test('perch run in a terminal gives the command one, and destroys the sandbox', async () => {
  const ids = async () => (await sharedPerch().sandboxes.list()).items.map(({ id }) => id);
  const before = new Set(await ids());
  const added = async () => (await ids()).filter((id) => !before.has(id));
  await using terminal = new Terminal(
    `'${process.execPath}' '${cli}' run -- sh -c 'tty; read x; echo "$x"; exit 4'`,
  );
  await terminal.until(/\/dev\/pts\/\d+\r\n/);
  expect(await added()).toHaveLength(1);
  terminal.type('typed\n');
  await terminal.until(/typed\r\n/);
  expect(await terminal.ended).toBe(4);
  expect(await added()).toEqual([]);
});
