import type { ClientRequest } from 'node:http';
import { Agent, type RequestOptions, request } from 'node:https';
import { Connections, keeping } from './connections.ts';

const connections = new Connections(new Agent(keeping));

export function requestByTls(target: string, options: RequestOptions): ClientRequest {
  return request(target, { ...options, agent: connections.fresh() });
}
