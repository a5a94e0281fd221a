import { HostClient } from '@perch/host-client';
import { PerchError } from '@perch/protocol';
import type { HostAddress } from '../config/index.ts';
import { HostDirectory } from './directory.ts';

/** A host of this Perch, by the client of its agent. */
export interface Host {
  id: string;
  client: HostClient;
  directory: HostDirectory;
}

/** The hosts of this Perch. What concerns a sandbox is asked of the host that its row names, and of no other. */
export class Hosts implements AsyncDisposable {
  readonly #hosts: ReadonlyMap<string, Host>;
  /** Where new sandboxes are made, and where snapshots and templates are: one host has them all. */
  readonly place: Host;

  /** @param addresses at least one; new sandboxes are made on the first */
  constructor(addresses: readonly [HostAddress, ...HostAddress[]]) {
    const [place, ...others] = addresses;
    this.place = open(place);
    this.#hosts = new Map([this.place, ...others.map(open)].map((host) => [host.id, host]));
  }

  all(): Host[] {
    return [...this.#hosts.values()];
  }

  /** @throws PerchError host_unavailable when this Perch has no such host */
  of(id: string): HostClient {
    const host = this.#hosts.get(id);
    if (host) return host.client;
    throw new PerchError('host_unavailable', `This Perch has no host ${id}.`, { host_id: id });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.all().map(({ client }) => client[Symbol.asyncDispose]()));
  }
}

function open({ id, socket }: HostAddress): Host {
  const client = new HostClient(socket);
  return { id, client, directory: new HostDirectory(client) };
}
