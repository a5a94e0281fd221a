/** Input of and signals to a guest's processes. */
import type { TerminalSize } from '@perch/protocol';
import { startError } from '../errors.ts';
import { Refused, type Transport } from '../transport.ts';

/** Of input in JSON, bytes a call. */
const jsonPiece = 1024 * 1024;

/** Resolves when the process has taken it all. @returns false when the process has gone, or closed its input */
export async function sendStdin(
  transport: Transport,
  pid: number,
  data: Buffer,
  signal?: AbortSignal,
): Promise<boolean> {
  return accepted(transport, async () => {
    try {
      await transport.send({ path: `/perch.Commands/Input?pid=${pid}`, body: data, signal });
    } catch (error) {
      if (!(error instanceof Refused) || error.refusal.code !== 'unimplemented') throw error;
      await sendInJson(transport, pid, data, signal);
    }
  });
}

/** To the agent of an older snapshot. @throws {Refused} */
async function sendInJson(
  transport: Transport,
  pid: number,
  data: Buffer,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (let offset = 0; offset < data.length; offset += jsonPiece) {
    const stdin = data.subarray(offset, offset + jsonPiece).toString('base64');
    const body = { process: { pid }, input: { stdin } };
    await transport.unary({ path: '/process.Process/SendInput', body, signal }, { patient: 'input' });
  }
}

/** Resolves when the process has taken what was sent before. @returns false when the process has gone */
export function closeStdin(transport: Transport, pid: number, signal?: AbortSignal): Promise<boolean> {
  const call = { path: '/process.Process/CloseStdin', body: { process: { pid } }, signal };
  return accepted(transport, () => transport.unary(call, { patient: 'input' }));
}

/** @param name such as SIGINT @returns false when the process has gone */
export function sendSignal(transport: Transport, pid: number, name: string): Promise<boolean> {
  const path = '/process.Process/SendSignal';
  const body = { process: { pid }, signal: name.replace(/^SIG(?!NAL_)/, 'SIGNAL_SIG') };
  return accepted(transport, () => transport.unary({ path, body }));
}

/** @returns false when the process has gone, or has no terminal */
export function resize(transport: Transport, pid: number, size: TerminalSize): Promise<boolean> {
  const body = { process: { pid }, pty: { size } };
  return accepted(transport, () => transport.unary({ path: '/process.Process/Update', body }));
}

async function accepted(transport: Transport, call: () => Promise<unknown>): Promise<boolean> {
  try {
    await call();
    return true;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    const { code } = error.refusal;
    if (code === 'not_found' || code === 'failed_precondition') return false;
    throw startError(error.refusal, { sandboxId: transport.options.sandboxId });
  }
}
