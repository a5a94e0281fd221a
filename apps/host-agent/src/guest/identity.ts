/**
 * The short exchanges that the root process has with a guest: is its agent up, did it take over clock, entropy, identity
 * and token, and has it written out its disk. Answers are bounded; nothing of them is used beyond a yes or no.
 */
import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Answer, exchange, type Question, Unconnected } from './exchange.ts';

/** Port of the guest agent; E2B's envd listens on the same. */
export const guestPort = 49_983;

/** Of a guest that boots: what is sent to it too early is lost, and would be sent again only after a second. */
const bootConnectMs = 150;
/** Of a guest that goes on: it gets what was sent as soon as it runs, which on a busy machine takes its time. */
const connectMs = 3000;
const pollMs = 10;
const healthMs = 2000;
const answerMs = 30_000;
const warmUpMs = 20_000;
/** It may have stood still for want of room until just now. */
const diskConnectMs = 30_000;
/** All of the memory may be still to be written. */
const diskMs = 60_000;

export interface GuestIdentity {
  sandboxId: string;
  templateId: string;
  /** Higher than any that the guest has seen. */
  number: number;
  accessToken: string;
  /** Opens the guest agent of a snapshot, which has the token of the life that was captured. */
  proof?: string | undefined;
  /** Without it the guest keeps what its snapshot has. */
  env?: Record<string, string> | undefined;
  defaultUser: string;
}

export interface GuestReadiness {
  waitForAgent: typeof waitForAgent;
  giveIdentity: typeof giveIdentity;
  warmUp: typeof warmUp;
  writeOut: typeof writeOut;
  holdDisk: typeof holdDisk;
  letGoOfDisk: typeof letGoOfDisk;
}

/** The points that a guest must confirm before its sandbox is `running`. */
const required = [
  ...['clock', 'entropy', 'hostname', 'machineId', 'token', 'environment', 'user'],
  // Connections from before a restore lead nowhere: a program must be told, or it waits for ever.
  'connections',
];

function ask(address: string, question: Question): Promise<Answer> {
  return exchange(address, guestPort, question);
}

/**
 * Waits until the guest agent of a guest that boots answers.
 * @throws Error when `signal` ends the wait.
 */
export async function waitForAgent(address: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    try {
      const { status } = await ask(address, {
        ...{ method: 'GET', path: '/health', signal },
        ...{ connectMs: bootConnectMs, answerMs: healthMs },
      });
      if (status === 204) return;
    } catch {
      // Not up yet: the guest is still booting. The signal bounds the wait.
    }
    await sleep(pollMs, undefined, { signal });
  }
}

/**
 * Tells the guest who it is now, as soon as its agent takes connections.
 * @throws Error when the guest does not confirm every point: a sandbox with a stale clock or shared
 * entropy must not run.
 */
export async function giveIdentity(
  address: string,
  identity: GuestIdentity,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    try {
      return await tellIdentity(address, identity, signal);
    } catch (error) {
      if (!(error instanceof Unconnected)) throw error;
    }
    await sleep(pollMs, undefined, { signal });
  }
}

async function tellIdentity(address: string, identity: GuestIdentity, signal: AbortSignal): Promise<void> {
  const { status, text } = await ask(address, {
    method: 'POST',
    path: '/init',
    headers: {
      'content-type': 'application/json',
      ...(identity.proof === undefined ? {} : { 'x-access-token': identity.proof }),
    },
    // A busy guest is connected to late, and its clock is to be right when it is told.
    body: () => initBody(identity),
    ...{ connectMs, answerMs, signal },
  });
  if (status !== 200) throw new Error(`The guest agent refused its identity (${status}).`);
  const missing = unconfirmed(text, identity.number);
  if (missing.length > 0) throw new Error(`The guest agent did not confirm: ${missing.join(', ')}.`);
}

function initBody({ sandboxId, templateId, number, accessToken, env, defaultUser }: GuestIdentity): string {
  return JSON.stringify({
    generation: number,
    timestamp: new Date().toISOString(),
    entropy: randomBytes(256).toString('base64'),
    ...{ sandboxId, templateId, hostname: sandboxId, machineId: machineId(sandboxId) },
    ...{ accessToken, envVars: env, defaultUser },
  });
}

/**
 * Has a guest that nobody uses yet run a line of shell, so that what comes later finds its way known. Nothing of the
 * answer is looked at.
 */
export async function warmUp(
  address: string,
  accessToken: string,
  line: string,
  signal: AbortSignal,
): Promise<void> {
  await ask(address, {
    method: 'POST',
    path: '/process.Process/Start',
    headers: {
      'content-type': 'application/connect+json',
      'connect-protocol-version': '1',
      'x-access-token': accessToken,
      // The guest ends it by itself: one that takes long is left, and no reason to give the guest up.
      'connect-timeout-ms': `${warmUpMs}`,
    },
    // The guest agent tells nobody of a command with this tag.
    body: envelope({
      process: { cmd: 'bash', args: ['-c', `{ ${line}; } >/dev/null 2>&1`] },
      tag: 'perch-warm-up',
    }),
    ...{ connectMs, answerMs, signal },
  });
}

/** Has the guest write all that it has not yet to its disk. @throws Error when it does not say that it has */
export function writeOut(address: string, accessToken: string, signal: AbortSignal): Promise<void> {
  return tellDisk(address, accessToken, 'write-out', signal);
}

/** The same, and it changes nothing of the disk from then on, for ten seconds at most. */
export function holdDisk(address: string, accessToken: string, signal: AbortSignal): Promise<void> {
  return tellDisk(address, accessToken, 'hold', signal);
}

/** It may change its disk again. No error when it might all the time. */
export function letGoOfDisk(address: string, accessToken: string, signal: AbortSignal): Promise<void> {
  return tellDisk(address, accessToken, 'let-go', signal);
}

async function tellDisk(
  address: string,
  accessToken: string,
  what: 'write-out' | 'hold' | 'let-go',
  signal: AbortSignal,
): Promise<void> {
  const { status } = await ask(address, {
    ...{ method: 'POST', path: `/disk/${what}`, headers: { 'x-access-token': accessToken } },
    ...{ connectMs: diskConnectMs, answerMs: diskMs, signal },
  });
  if (status === 204) return;
  throw new Error(
    status === 404
      ? 'Its guest agent is of an earlier Perch, and cannot write its disk out.'
      : `Its guest agent cannot write its disk out (${status}).`,
  );
}

/** A message of the Connect protocol: flags, length, JSON. Source: connectrpc.com/docs/protocol */
function envelope(message: object): Buffer {
  const json = Buffer.from(JSON.stringify(message));
  const head = Buffer.alloc(5);
  head.writeUInt32BE(json.length, 1);
  return Buffer.concat([head, json]);
}

/** The points that the answer to `/init` leaves open. Exported for its property test: the guest writes this text. */
export function unconfirmed(text: string, generation: number): string[] {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    return ['anything'];
  }
  const { generation: theirs, confirmed } = (answer ?? {}) as { generation?: unknown; confirmed?: unknown };
  const told = new Set(Array.isArray(confirmed) ? confirmed : []);
  return [...(theirs === generation ? [] : ['generation']), ...required.filter((point) => !told.has(point))];
}

function machineId(sandboxId: string): string {
  return createHash('sha256').update(`perch machine-id ${sandboxId}`).digest('hex').slice(0, 32);
}
