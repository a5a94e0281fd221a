/**
 * The edge: requests for a port of a sandbox, by their host name or by headers. They go to the guest as they are.
 * Tokens are checked here, of the sandbox: each life of its guest agent has another, which clients never see.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { isPerchError, PerchError } from '@perch/protocol';
import { type Interceptor, requestId, type Services } from '../http/index.ts';
import type { Life } from '../sandboxes/index.ts';
import { agentPort, isForClients, type Permit, pathOf, permit } from './agent.ts';
import {
  type Answer,
  broken,
  closedPort,
  inTransition,
  notFound,
  privateTraffic,
  sendAnswer,
  sendRawAnswer,
  tooMany,
} from './answers.ts';
import { type Failure, forward, forwardUpgrade, type Route } from './forward.ts';
import { forwardGrpc, isGrpc } from './grpc.ts';
import { toGuest } from './headers.ts';
import { isSame } from './secrets.ts';
import { isSignedBy, parseSigned } from './signature.ts';
import { type Target, targetOf } from './target.ts';

/** Connections to one guest at a time. */
const mostConnections = 4096;
/** A sandbox that is woken by use has at least so long, seconds. */
const wokenForSec = 300;

/** A request whose right has been checked. */
interface Admitted {
  life: Life;
  port: number;
  permit: Permit;
}

export class Edge implements Interceptor {
  readonly #services: Services;
  /** Ends of all that is under way. */
  readonly #streams = new Set<() => void>();

  constructor(services: Services) {
    this.#services = services;
    services.shutdown.addEventListener('abort', () => {
      for (const end of this.#streams) end();
    });
  }

  takes(request: IncomingMessage): boolean {
    return targetOf(request) !== undefined;
  }

  async request(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const begun = performance.now();
    // What has begun to be answered is cut, and the rest is told.
    const end = () => sendAnswer(request, response, shuttingDown);
    this.#streams.add(end);
    let isGone = false;
    response.once('close', () => {
      isGone = true;
      this.#streams.delete(end);
      const seconds = (performance.now() - begun) / 1000;
      this.#services.metrics.request(request.method ?? '', 'edge', response.statusCode, seconds);
    });
    // Its client may leave while the sandbox wakes, and would not be seen to leave any more.
    const answer = await this.#serve(request, async (route) => {
      if (isGone) return undefined;
      const toProgram = route.port !== this.#services.guests.agentPort;
      return (toProgram && isGrpc(request) ? forwardGrpc : forward)(request, response, route);
    });
    if (answer?.code === 204) response.writeHead(204, cors).end();
    else if (answer) sendAnswer(request, response, answer);
  }

  async upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const end = () => void socket.destroy();
    this.#streams.add(end);
    socket.once('close', () => this.#streams.delete(end));
    // Node takes its own listener away before it hands the socket over.
    socket.on('error', end);
    const answer = await this.#serve(
      request,
      async (route) => (socket.destroyed ? undefined : forwardUpgrade(request, socket, head, route)),
      true,
    );
    if (answer) sendRawAnswer(request, socket, answer);
  }

  /** @returns the answer of the edge's own, when there is no other */
  async #serve(
    request: IncomingMessage,
    go: (route: Route) => Promise<Failure | undefined>,
    upgrade = false,
  ): Promise<Answer | undefined> {
    if (this.#services.shutdown.aborted) return shuttingDown;
    const admitted = this.#admit(request, upgrade);
    if ('code' in admitted) return admitted;
    const { port, permit: permitted } = admitted;
    const life = await this.#awake(request, admitted);
    if ('code' in life) return life;
    const { guests, sandboxes } = this.#services;
    using _ = sandboxes.hold(life);
    let route: Route;
    try {
      const upstream = guests.upstream(life);
      if (upstream.open >= mostConnections) return tooMany(life.id);
      const headers = toGuest(request, {
        host: life.maskHost?.replace(/\$\{PORT\}/, String(port)) ?? null,
        token: permitted.signed ? life.accessToken : undefined,
        swap: { from: life.edgeToken, to: life.accessToken },
        upgrade,
      });
      route = { upstream, port: port === agentPort ? guests.agentPort : port, url: permitted.url, headers };
    } catch {
      return notFound(life.id);
    }
    const failure = await go(route);
    if (failure === undefined) return undefined;
    if (life.signal.aborted || life.status !== 'running') return notFound(life.id);
    return failure === 'refused' ? closedPort(life.id, port) : broken(life.id, port);
  }

  /** Checks everything that can be checked without the guest. */
  #admit(request: IncomingMessage, upgrade: boolean): Admitted | Answer {
    const target = this.#resolve(targetOf(request), request);
    if ('code' in target) return target;
    const { life, port } = target;
    const url = request.url ?? '';
    if (!url.startsWith('/')) return { code: 400, message: 'The target of the request must be a path' };
    if (port === agentPort || port === this.#services.guests.agentPort) {
      if (request.method === 'OPTIONS') return { code: 204, message: '' };
      if (upgrade || !isForClients(request)) return { code: 404, message: 'There is no such call' };
      const permitted = permit(request, life);
      return 'code' in permitted ? permitted : { life, port: agentPort, permit: permitted };
    }
    if (life.trafficToken !== null) {
      const token = request.headers['e2b-traffic-access-token'];
      if (typeof token !== 'string') return privateTraffic(life.id, false);
      if (!isSame(life.trafficToken, token)) return privateTraffic(life.id, true);
    }
    return { life, port, permit: { url } };
  }

  #resolve(target: Target | undefined, request: IncomingMessage): { life: Life; port: number } | Answer {
    const { sandboxes } = this.#services;
    if (target?.kind === 'signed') {
      const signed = parseSigned(request.method, request.url ?? '');
      const life = sandboxes.lives().find((one) => isSignedBy(signed, one.edgeToken));
      return life ? { life, port: agentPort } : { code: 401, message: 'invalid signature' };
    }
    if (target?.kind !== 'port') return { code: 400, message: target?.problem ?? 'No sandbox is named' };
    const life = sandboxes.life(target.id);
    return life ? { life, port: target.port } : notFound(target.id);
  }

  /** The running life; a paused one is resumed if it may be. To look at its health is no use of it. */
  async #awake(request: IncomingMessage, { life, port }: Admitted): Promise<Life | Answer> {
    const { sandboxes } = this.#services;
    if (port === agentPort && pathOf(request.url) === '/health' && life.status !== 'running') {
      return notFound(life.id);
    }
    try {
      const timeoutSec = Math.max(wokenForSec, life.timeoutSec);
      return await sandboxes.ready(
        life.id,
        requestId(request),
        life.timeoutMode === 'fixed' ? { timeoutSec } : {},
      );
    } catch (error) {
      return toAnswer(life.id, error);
    }
  }
}

const shuttingDown: Answer = { code: 503, message: 'Perch is shutting down' };

const cors = {
  'access-control-allow-origin': '*',
  'access-control-allow-headers': '*',
  'access-control-allow-methods': '*',
};

function toAnswer(id: string, error: unknown): Answer {
  if (isPerchError(error, 'sandbox_not_running')) {
    const { status } = error.details;
    return status === 'pausing' || status === 'resuming' ? inTransition(id, status) : notFound(id);
  }
  if (isPerchError(error, 'sandbox_not_found') || isPerchError(error, 'sandbox_failed')) return notFound(id);
  const message = error instanceof PerchError ? error.message : 'The sandbox could not be resumed';
  return { sandboxId: id, message, code: 503 };
}
