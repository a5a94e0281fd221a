/**
 * What this host can still take on. A sandbox reserves its memory, and on disk its quota plus its memory,
 * since a pause writes that to files; what it occupies already is part of that, not on top of it.
 */
import { readFileSync } from 'node:fs';
import { PerchError } from '@perch/protocol';
import type { DiskRoom } from './disk-room.ts';
import type { SandboxRecord } from './journal.ts';

export interface Capacity {
  total: number;
  free: number;
}

export interface AdmissionOptions {
  /** MiB of memory for sandboxes. */
  memoryMb: number;
  /** Memory that a monitor may take beside its guest's, MiB. */
  overheadMb: number;
  room: DiskRoom;
}

/** Default for sandboxes: what the machine has, less a tenth and at least 512 MiB for everything else. */
export function defaultMemoryMb(): number {
  const kib = Number(/^MemTotal:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]);
  const total = Math.floor(kib / 1024);
  return Math.max(0, total - Math.max(512, Math.ceil(total / 10)));
}

export type Shape = Pick<SandboxRecord, 'memory_mb' | 'disk_mb'>;
export type Resource = 'memory' | 'disk';
type Held = Shape & Pick<SandboxRecord, 'status'>;

function diskOf(shape: Shape): number {
  return shape.disk_mb + shape.memory_mb;
}

export class Admission {
  readonly #options: AdmissionOptions;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /** A paused sandbox has its memory on disk. */
  memory(held: readonly Held[]): Capacity {
    const total = this.#options.memoryMb;
    const inMemory = held.filter(({ status }) => status !== 'paused');
    return { total, free: total - sum(inMemory.map((shape) => this.#memoryOf(shape))) };
  }

  /** @param occupiedBytes what the sandboxes in `held` occupy on disk already */
  async disk(held: readonly Shape[], occupiedBytes: number): Promise<Capacity> {
    const freeMb = Math.floor(((await this.#options.room.freeBytes()) + occupiedBytes) / 2 ** 20);
    return { total: freeMb, free: freeMb - sum(held.map(diskOf)) };
  }

  /** @throws PerchError capacity_exhausted */
  async admit(shape: Shape, held: readonly Held[], occupiedBytes: number): Promise<void> {
    this.admitMemory(shape, held);
    refuseUnless('disk', diskOf(shape), (await this.disk(held, occupiedBytes)).free);
  }

  /** Whether the memory of one more is there. */
  fitsMemory(shape: Shape, held: readonly Held[]): boolean {
    return this.#memoryOf(shape) <= this.memory(held).free;
  }

  /** What there is too little of for one of this shape. */
  lacks(shape: Shape, room: Record<Resource, Capacity>): Resource[] {
    const needed = { memory: this.#memoryOf(shape), disk: diskOf(shape) };
    return (['memory', 'disk'] as const).filter((resource) => needed[resource] > room[resource].free);
  }

  /** For a sandbox whose disk is reserved already. @throws PerchError capacity_exhausted */
  admitMemory(shape: Shape, held: readonly Held[]): void {
    refuseUnless('memory', this.#memoryOf(shape), this.memory(held).free);
  }

  #memoryOf(shape: Shape): number {
    return shape.memory_mb + this.#options.overheadMb;
  }
}

function refuseUnless(resource: Resource, requested: number, free: number): void {
  if (requested <= free) return;
  const available = Math.max(0, free);
  throw new PerchError(
    'capacity_exhausted',
    `The host has ${available} MiB of ${resource} left, and the sandbox would reserve ${requested} MiB.`,
    { resource, requested, available },
  );
}

function sum(numbers: number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}
