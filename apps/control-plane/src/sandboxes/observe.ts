import type { HostSandbox } from '@perch/protocol';
import type { Logger } from 'pino';
import type { Creator } from './create.ts';
import type { Destroyer } from './destroy.ts';
import type { Life } from './life.ts';
import type { Lives } from './lives.ts';
import type { Operations } from './operations.ts';
import type { Pauser } from './pause.ts';
import type { Resumer } from './resume.ts';

interface Parts {
  lives: Lives;
  operations: Operations;
  destroyer: Destroyer;
  creator: Creator;
  pauser: Pauser;
  resumer: Resumer;
  log: Logger;
}

/**
 * Brings what is written down to what the host says, for sandboxes that nothing in this process works on.
 * The host's word may be late. It is safe to follow all the same: of one generation `paused` is the last
 * word, of an earlier one nothing counts, and what else is followed too early is mended by the next word.
 */
export class Observer {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Sandboxes of a host that nothing in this process works on; what its reconciler may judge. */
  settled(of: string): Life[] {
    const { lives, operations, destroyer } = this.#parts;
    const isSettled = ({ id, hostId }: Life) =>
      hostId === of && operations.kind(id) === undefined && !destroyer.isDestroying(id);
    return lives.all().filter(isSettled);
  }

  /** Whether a pause or a resume on a host is left half-way, by a crash or without an answer. */
  unsettled(hostId: string): boolean {
    return this.settled(hostId).some(({ status }) => status === 'pausing' || status === 'resuming');
  }

  /** A host's word on one sandbox. Of one that lives on another host it says nothing that counts. */
  async observed(hostId: string, seen: HostSandbox): Promise<void> {
    const { lives, operations, destroyer, creator, log } = this.#parts;
    const { id } = seen;
    const life = lives.get(id);
    if (life && life.hostId !== hostId) {
      log.warn({ sandbox: id, host: hostId, of: life.hostId }, 'a host tells of a sandbox of another one');
      return;
    }
    const kind = operations.kind(id);
    if (kind !== undefined) {
      const ended = seen.status === 'failed' || seen.status === 'destroyed';
      if (ended || kind !== 'create') operations.tell(hostId, seen);
      return;
    }
    if (destroyer.isDestroying(id)) return;
    if (!life) {
      if (seen.status !== 'destroyed') await destroyer.sweep(hostId, id);
      return;
    }
    if (seen.generation < life.generation) return;
    if (seen.status === 'destroyed') await destroyer.gone(life, 'destroyed on its host');
    else if (life.status === 'destroying') await destroyer.destroy(id, 'finished after a restart');
    else if (seen.status === 'failed') await destroyer.fail(life, seen.reason ?? 'the VM ended');
    else if (life.status === 'failed') await this.#leftOver(hostId, seen);
    else if (life.status === 'creating') await creator.recover(life, seen);
    else if (seen.generation === life.generation) await this.#sameLife(life, seen);
    else if (seen.generation === life.generation + 1) await this.#nextLife(life, seen);
  }

  /** Its host has it no more. */
  async missing(life: Life): Promise<void> {
    const { lives, operations, destroyer } = this.#parts;
    if (lives.get(life.id) !== life || operations.kind(life.id) !== undefined) return;
    if (life.status === 'creating') {
      await destroyer.destroy(life.id, 'perchd ended while it was being created');
    } else if (life.status === 'destroying') await destroyer.destroy(life.id, 'finished after a restart');
    else if (life.status !== 'failed') await destroyer.fail(life, 'Its host no longer has it.');
  }

  /** Of a failed one. Word of a change under way may be older than the failure; what comes of it is told, too. */
  async #leftOver(hostId: string, { id, status }: HostSandbox): Promise<void> {
    if (status === 'running' || status === 'paused') await this.#parts.destroyer.sweep(hostId, id);
  }

  async #sameLife(life: Life, seen: HostSandbox): Promise<void> {
    const { pauser } = this.#parts;
    if (seen.status === 'paused') {
      if (life.status === 'resuming') await pauser.paused(life, 'not resumed: its host still has it paused');
      else if (life.status !== 'paused') await pauser.paused(life, 'its host has paused it');
    } else if (seen.status === 'running' && life.status === 'pausing') {
      await pauser.runsOn(life, 'not paused: its host still runs it');
    }
  }

  async #nextLife(life: Life, seen: HostSandbox): Promise<void> {
    if (seen.status !== 'running' || (life.status !== 'resuming' && life.status !== 'paused')) return;
    await this.#parts.resumer.runs(life, seen, 'its host has resumed it');
  }
}
