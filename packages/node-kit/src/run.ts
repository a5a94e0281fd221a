/** Runs a system tool: no shell, bounded in time and output, with an error that says what the tool said. */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

export interface RunOptions {
  /** Written to stdin, which is then closed. Without it stdin is empty. */
  input?: string | Uint8Array;
  /** After this the tool and all it started are killed. Default 30 s. */
  timeoutMs?: number;
  /** Most stdout that is accepted, bytes. A tool that writes more is killed. Default 4 MiB. */
  maxOutput?: number;
  /** Set beside PATH and LC_ALL=C; nothing else is inherited. */
  env?: Record<string, string>;
  cwd?: string;
}

export interface RunResult {
  stdout: string;
  stderr: string;
}

/**
 * - `not_started`: the tool never ran.
 * - `failed`: it ran and ended with a status other than 0.
 * - `unknown`: it was killed (time-out, output limit, a signal); what it had done stays done.
 */
export type RunOutcome = 'not_started' | 'failed' | 'unknown';

export class RunError extends Error {
  override readonly name = 'RunError';
  readonly outcome: RunOutcome;
  readonly file: string;
  readonly args: readonly string[];
  /** Undefined when the tool was killed or never ran. */
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;

  constructor(
    outcome: RunOutcome,
    why: string,
    tool: { file: string; args: readonly string[] },
    result: { exitCode?: number; stdout?: string; stderr?: string; cause?: unknown } = {},
  ) {
    const said = result.stderr?.trim();
    super(
      `${[tool.file, ...tool.args].join(' ')}: ${why}${said ? `: ${said}` : ''}`,
      result.cause === undefined ? undefined : { cause: result.cause },
    );
    this.outcome = outcome;
    this.file = tool.file;
    this.args = tool.args;
    this.exitCode = result.exitCode;
    this.stdout = result.stdout ?? '';
    this.stderr = result.stderr ?? '';
  }
}

/** System tools live in sbin, which is missing from the PATH of many users. */
const toolPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const maxStderr = 64 * 1024;

/** The path of a tool, where `run` looks for it. */
export function findTool(name: string): string | undefined {
  const paths = toolPath.split(':').map((dir) => join(dir, name));
  return paths.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * The tool is started before this returns, by the calling thread: called in another network namespace,
 * the tool runs there. It gets a session of its own, so that a Ctrl-C meant for us does not
 * end it half-way.
 * @throws RunError
 */
export function run(file: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const { timeoutMs = 30_000, maxOutput = 4 * 1024 * 1024 } = options;
  const tool = { file, args };
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      cwd: options.cwd ?? '/',
      env: { PATH: toolPath, LC_ALL: 'C', ...options.env },
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      detached: true,
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let stdoutBytes = 0;
    let stderrBytes = 0;
    let killedBecause: string | undefined;

    const kill = (why: string) => {
      killedBecause ??= why;
      if (child.pid === undefined) return;
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // The group is gone already; `close` follows.
      }
    };
    const timer = setTimeout(() => kill(`no end after ${timeoutMs} ms`), timeoutMs);

    child.stdout?.on('data', (chunk: Buffer) => {
      stdoutBytes += chunk.length;
      if (stdoutBytes > maxOutput) kill(`more than ${maxOutput} bytes of output`);
      else stdout.push(chunk);
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      if (stderrBytes < maxStderr) stderr.push(chunk.subarray(0, maxStderr - stderrBytes));
      stderrBytes += chunk.length;
    });
    // A tool that ends without reading its input breaks the pipe; its status says what is wrong.
    child.stdin?.on('error', () => {});
    child.stdin?.end(options.input);

    child.on('error', (error) => {
      if (child.pid !== undefined) return;
      clearTimeout(timer);
      reject(new RunError('not_started', `cannot be started (${error.message})`, tool, { cause: error }));
    });
    child.on('close', (code, signal) => {
      if (child.pid === undefined) return;
      clearTimeout(timer);
      const result = { stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() };
      if (killedBecause !== undefined) reject(new RunError('unknown', killedBecause, tool, result));
      else if (code === 0) resolve(result);
      else if (code !== null)
        reject(new RunError('failed', `exit status ${code}`, tool, { ...result, exitCode: code }));
      else reject(new RunError('unknown', `killed by ${signal}`, tool, result));
    });
  });
}
