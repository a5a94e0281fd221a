/** Input of and signals to a guest's processes. */
import { startError } from '../errors.ts';
import { Refused, type Transport } from '../transport.ts';

/** Resolves when the process has taken it all. @returns false when the process has gone, or closed its input */
export async function sendStdin(
  transport: Transport,
  pid: number,
  data: Buffer,
  signal?: AbortSignal,
): Promise<boolean> {
  return accepted(transport, () =>
    transport.send({ path: `/perch.Commands/Input?pid=${pid}`, body: data, signal }),
  );
}

/** Resolves when the process has taken what was sent before. @returns false when the process has gone */
export function closeStdin(transport: Transport, pid: number, signal?: AbortSignal): Promise<boolean> {
  const call = { path: '/process.Process/CloseStdin', body: { process: { pid } }, signal };
  return accepted(transport, () => transport.unary(call, { patient: true }));
}

/** @param name such as SIGINT @returns false when the process has gone */
export function sendSignal(transport: Transport, pid: number, name: string): Promise<boolean> {
  const path = '/process.Process/SendSignal';
  const body = { process: { pid }, signal: name.replace(/^SIG(?!NAL_)/, 'SIGNAL_SIG') };
  return accepted(transport, () => transport.unary({ path, body }));
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
