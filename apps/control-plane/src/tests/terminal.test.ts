/** Commands with a terminal, of the real guest agent, which runs here as an ordinary process. */
import type { CommandWithOutput, ExecServerMessage } from '@perch/protocol';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { TestPlane } from '../testing/index.ts';
import { agentIsBuilt, RealPlane } from '../testing/real-agent.ts';
import { StreamClient } from '../testing/stream-client.ts';

if (!agentIsBuilt) console.warn('skipped: there is no guest agent; `npm run setup` builds it');

describe.skipIf(!agentIsBuilt)('a terminal', () => {
  let real: RealPlane;
  let plane: TestPlane;
  let id: string;
  beforeAll(async () => {
    real = await RealPlane.start();
    ({ plane, id } = real);
  }, 60_000);
  afterAll(async () => {
    await real[Symbol.asyncDispose]();
  });

  const open = () =>
    StreamClient.open(`${plane.url}/v1/sandboxes/${id}/exec/stream`, { 'x-api-key': plane.key });
  const sh = (script: string) => ({ type: 'start', cmd: 'sh', args: ['-c', script] });
  const pty = { cols: 91, rows: 17 };

  /** Reads until the text has come, in however many pieces. */
  async function shows(client: StreamClient, text: string): Promise<void> {
    let seen = '';
    await client.until((one) => {
      if (one.type === 'stdout' && 'data' in one) seen += one.data;
      return seen.includes(text);
    });
  }
  const lastOf = (messages: ExecServerMessage[]) => messages.at(-1);

  test('it has the size that was asked for, and the last one that it is given', async () => {
    await using client = await open();
    client.send({ ...sh('stty size; read x; stty size; test -t 0 && test -t 2'), pty });
    await shows(client, '17 91');
    for (const cols of [20, 30, 40]) client.send({ type: 'resize', cols, rows: 9 });
    client.send({ type: 'resize', cols: 50, rows: 10 });
    const resized = async () => {
      await using probe = await open();
      probe.send(sh(`stty size < /proc/$(pgrep -nf '[r]ead x; stty')/fd/0`));
      return (await probe.rest()).some(
        (one) => one.type === 'stdout' && 'data' in one && one.data === '10 50\n',
      );
    };
    await expect.poll(resized).toBe(true);
    client.send({ type: 'stdin', data: '\n' });
    await shows(client, '10 50');
    expect(lastOf(await client.rest())).toEqual({ type: 'exit', exit_code: 0 });
  });

  test('what is typed is shown, characters come whole, and Ctrl-C interrupts', async () => {
    await using client = await open();
    client.send({ ...sh("trap 'echo caught; exit 7' INT; echo ready; cat"), pty });
    await shows(client, 'ready');
    client.send({ type: 'stdin', data: 'ünï 🦜\n' });
    await shows(client, 'ünï 🦜\r\nünï 🦜\r\n');
    client.send({ type: 'stdin', data: '\u0003' });
    await shows(client, 'caught');
    expect(lastOf(await client.rest())).toEqual({ type: 'exit', exit_code: 7 });
  });

  test('its end of input is typed, and the message for it refused', async () => {
    await using client = await open();
    client.send({ ...sh('cat; echo over'), pty });
    client.send({ type: 'stdin', data: 'text\n\u0004' });
    await shows(client, 'over');
    expect(lastOf(await client.rest())).toEqual({ type: 'exit', exit_code: 0 });
    await using other = await open();
    other.send({ ...sh('cat'), pty });
    other.send({ type: 'stdin_close' });
    expect(lastOf(await other.rest())).toMatchObject({ type: 'error', error: { code: 'validation_failed' } });
  });

  test('only a command with one has a size, and only one that can be', async () => {
    for (const messages of [
      [sh('cat'), { type: 'resize', cols: 80, rows: 24 }],
      [
        { ...sh('cat'), pty },
        { type: 'resize', cols: 0, rows: 24 },
      ],
      [{ ...sh('cat'), pty: { cols: 80, rows: 65_536 } }],
      [{ ...sh('cat'), pty: { cols: 80 } }],
    ]) {
      await using client = await open();
      for (const message of messages) client.send(message);
      expect(lastOf(await client.rest())).toMatchObject({
        type: 'error',
        error: { code: 'validation_failed' },
      });
    }
  });

  test('a command with one can be attached to, resized and typed to, and its output is kept', async () => {
    await using client = await open();
    client.send({ ...sh('echo begun; read x; stty size; read x'), pty, detach: true });
    const { pid } = (await client.next()) as Extract<ExecServerMessage, { type: 'start' }>;
    await shows(client, 'begun');
    client.socket.close();
    await client.closed;
    await using again = await open();
    again.send({ type: 'attach', pid });
    await shows(again, 'begun');
    again.send({ type: 'resize', cols: 60, rows: 20 });
    again.send({ type: 'stdin', data: '\n' });
    await shows(again, '20 60');
    again.send({ type: 'stdin', data: '\n' });
    expect(lastOf(await again.rest())).toEqual({ type: 'exit', exit_code: 0 });
    const answer = await plane.fetch(`/v1/sandboxes/${id}/commands/${pid}`);
    expect(await answer.json()).toMatchObject({
      stdout: expect.stringContaining('20 60'),
      stderr: '',
    } satisfies Partial<Record<keyof CommandWithOutput, unknown>>);
  });
});
