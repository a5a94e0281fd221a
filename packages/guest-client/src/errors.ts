/**
 * The meaning of the guest's refusals to a caller. The guest chose these words: they are cut, made printable,
 * and matched only to choose between errors of the caller's own request.
 */

import { quoted } from '@perch/node-kit';
import { PerchError } from '@perch/protocol';
import { errors as undici } from 'undici';

/** The subject of a call, for the error's details. */
export interface Subject {
  sandboxId: string;
  path?: string | undefined;
  user?: string | undefined;
  cwd?: string | undefined;
}

/** The guest refused: a Connect error, or an error of a plain HTTP call. */
export interface Refusal {
  /** Connect code, or the HTTP status as text. */
  code: string;
  message: string;
  /** Of a file call, why: a word of the agent's. */
  reason?: string;
  /** Of a call about two paths, the one that the refusal is about. */
  subject?: 'source' | 'destination';
}

export function guestProtocol(sandboxId: string, problem: string, cause?: unknown): PerchError {
  const text = quoted(problem);
  return new PerchError(
    'guest_protocol',
    `The guest agent broke the protocol: ${text}.`,
    {
      id: sandboxId,
      problem: text,
    },
    { cause },
  );
}

/** The agent of an older snapshot lacks what was asked for. */
export function agentTooOld(sandboxId: string, what: string): PerchError {
  return new PerchError(
    'agent_too_old',
    `The guest agent of ${sandboxId} is of an older Perch, and does not know ${what}.`,
    { id: sandboxId },
  );
}

export function guestUnavailable(sandboxId: string, why: string, cause?: unknown): PerchError {
  return new PerchError(
    'guest_unavailable',
    `The guest agent of ${sandboxId} does not answer: ${quoted(why)}.`,
    { id: sandboxId },
    { cause },
  );
}

export function transferInterrupted(path: string, cause?: unknown): PerchError {
  return new PerchError(
    'transfer_interrupted',
    `The transfer of ${quoted(path)} broke off.`,
    { path },
    { cause },
  );
}

/** Refusals that any call may get; undefined when it is not one of them. */
export function common(refusal: Refusal, subject: Subject): PerchError | undefined {
  const { code, message } = refusal;
  if (/^invalid username\b/.test(message) || message.startsWith('only root can run commands as')) {
    const user = subject.user ?? '';
    return new PerchError(
      'invalid_user',
      `The sandbox has no user ${quoted(user) || 'of the default name'}.`,
      { user },
    );
  }
  // The token is the one of this life: a guest that refuses it is in another one.
  if (code === 'unauthenticated' || code === '401') return guestUnavailable(subject.sandboxId, message);
  return undefined;
}

/** The error of a command that was not started. */
export function startError(refusal: Refusal, subject: Subject): PerchError {
  const shared = common(refusal, subject);
  if (shared) return shared;
  const { code, message } = refusal;
  if (/^cwd '/.test(message)) {
    const cwd = subject.cwd ?? '';
    const problem = code === 'permission_denied' ? 'may not be entered by this user' : 'does not exist';
    return new PerchError('invalid_cwd', `The directory ${quoted(cwd)} ${problem}.`, { cwd });
  }
  if (code === 'invalid_argument' || code === 'resource_exhausted') return invalid('command', message);
  if (code === 'unavailable') return guestUnavailable(subject.sandboxId, message);
  return guestProtocol(subject.sandboxId, `${code}: ${message}`);
}

export function invalid(where: string, message: string): PerchError {
  const text = quoted(message);
  return new PerchError('validation_failed', `The sandbox refuses the ${where}: ${text}.`, {
    problems: [{ where, message: text }],
  });
}

/** The error of a connection. A caller's own cancellation stays what it is. */
export function connectionError(error: unknown, sandboxId: string, signal?: AbortSignal): unknown {
  if (error instanceof PerchError) return error;
  if (signal?.aborted) return signal.reason;
  const { code, message } = error as { code?: unknown; message?: unknown };
  const name = typeof code === 'string' ? code : '';
  if (error instanceof undici.HTTPParserError || name === 'UND_ERR_HEADERS_OVERFLOW') {
    return guestProtocol(sandboxId, 'it does not speak HTTP', error);
  }
  return guestUnavailable(sandboxId, name || String(message), error);
}
