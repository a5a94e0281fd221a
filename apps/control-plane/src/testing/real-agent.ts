import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { createGuestClient } from '@perch/guest-client';
import type { Connect } from '../guests/index.ts';
import type { FakeHost } from './fake-host.ts';
import { TestPlane } from './index.ts';

const built = join(import.meta.dirname, '../../../../target/x86_64-unknown-linux-gnu/release/perch-guest');
export const agentBinary = process.env.PERCH_GUEST_BIN ?? built;
export const agentIsBuilt = existsSync(agentBinary);

/** The real guest agent as a process of this machine, one for each sandbox that a fake host makes. */
class RealAgents implements AsyncDisposable {
  readonly ports = new Map<string, number>();
  readonly #stops: (() => void)[] = [];

  /** To be the host's `onCreate`. */
  async create(id: string, accessToken: string): Promise<void> {
    const agent = spawn(
      agentBinary,
      ['serve', '--listen', '127.0.0.1:0', '--default-user', userInfo().username],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    this.#stops.push(() => agent.kill('SIGKILL'));
    const [line] = (await once(createInterface({ input: agent.stdout }), 'line')) as [string];
    const port = Number(line.split(':').at(-1));
    const init = await fetch(`http://127.0.0.1:${port}/init`, {
      method: 'POST',
      body: JSON.stringify({
        generation: 1,
        timestamp: new Date().toISOString(),
        entropy: Buffer.alloc(64).toString('base64'),
        sandboxId: id,
        templateId: 'base',
        hostname: id,
        machineId: 'a'.repeat(32),
        accessToken,
      }),
    });
    if (init.status !== 200) throw new Error(await init.text());
    this.ports.set(id, port);
  }

  attach(host: FakeHost): void {
    host.onCreate = (id, { access_token }) => this.create(id, access_token);
  }

  connect: Connect = (guest) => createGuestClient({ ...guest, port: this.ports.get(guest.sandboxId) ?? 0 });

  async [Symbol.asyncDispose](): Promise<void> {
    for (const stop of this.#stops) stop();
  }
}

/** perchd with the real guest agent, and a sandbox of it. */
export class RealPlane implements AsyncDisposable {
  readonly plane: TestPlane;
  readonly id: string;
  readonly #agents: RealAgents;

  private constructor(plane: TestPlane, id: string, agents: RealAgents) {
    this.plane = plane;
    this.id = id;
    this.#agents = agents;
  }

  static async start(): Promise<RealPlane> {
    const agents = new RealAgents();
    const plane = await TestPlane.start({}, agents.connect);
    agents.attach(plane.host);
    const { id } = await plane.create();
    return new RealPlane(plane, id, agents);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.plane[Symbol.asyncDispose]();
    await this.#agents[Symbol.asyncDispose]();
  }
}
