/**
 * The sandboxes that this host can still take on. A sandbox reserves its memory, and on disk its quota plus
 * what its monitor writes, which is above all the memory that a pause saves. That is for one life: the one it is in, or of a paused sandbox the next. Bytes that its
 * guest has written in this life are part of that. Bytes that earlier lives left on the disk are not, and just take
 * room.
 */
import { readFileSync } from 'node:fs';
import { PerchError } from '@perch/protocol';
import type { DiskBackend } from '../../disk/index.ts';
import type { VmMonitor } from '../../vmm/index.ts';
import type { DiskRoom, SandboxRecord } from '../journal/index.ts';

export interface Capacity {
  total: number;
  free: number;
}

export interface AdmissionOptions {
  /** MiB of memory for sandboxes. */
  memoryMb: number;
  monitor: Pick<VmMonitor, 'overheadMb' | 'diskMb'>;
  room: Pick<DiskRoom, 'freeBytes'>;
  disks: Pick<DiskBackend, 'promisedBytes'>;
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

export interface OnDisk extends Shape {
  /** Bytes of the promise that are on the disk already. */
  takenBytes: number;
}

const mebibyte = 2 ** 20;

/** Whether anything is reserved for it: a failed one whose teardown is done can write nothing any more. */
export function isHeld({ status, slot }: Pick<SandboxRecord, 'status' | 'slot'>): boolean {
  return status !== 'failed' || slot !== null;
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

  /** `total` is what is promised and what is free together. */
  async disk(held: readonly OnDisk[]): Promise<Capacity> {
    const unreserved = (await this.#options.room.freeBytes()) - sum(held.map((one) => this.#toCome(one)));
    const free = Math.floor(unreserved / mebibyte);
    return { total: free + sum(held.map((shape) => this.#diskOf(shape))), free };
  }

  /** @throws PerchError capacity_exhausted */
  async admit(shape: Shape, held: readonly (Held & OnDisk)[]): Promise<void> {
    this.admitMemory(shape, held);
    refuseUnless('disk', this.#diskOf(shape), (await this.disk(held)).free);
  }

  /** MiB of memory that one more lacks: 0 or less when it is there. */
  lacksMemory(shape: Shape, held: readonly Held[]): number {
    return this.#memoryOf(shape) - this.memory(held).free;
  }

  /** Bytes of disk that one more lacks: 0 or less when they are there. */
  async lacksDisk(shape: Shape, held: readonly OnDisk[]): Promise<number> {
    return (this.#diskOf(shape) - (await this.disk(held)).free) * mebibyte;
  }

  /** The resources of which there is too little for one of this shape. */
  lacks(shape: Shape, room: Record<Resource, Capacity>): Resource[] {
    const needed = { memory: this.#memoryOf(shape), disk: this.#diskOf(shape) };
    return (['memory', 'disk'] as const).filter((resource) => needed[resource] > room[resource].free);
  }

  /** For a sandbox whose disk is reserved already. @throws PerchError capacity_exhausted */
  admitMemory(shape: Shape, held: readonly Held[]): void {
    refuseUnless('memory', this.#memoryOf(shape), this.memory(held).free);
  }

  /** MiB that one life may write. */
  #diskOf({ disk_mb, memory_mb }: Shape): number {
    const { disks, monitor } = this.#options;
    const promised = disks.promisedBytes(disk_mb * mebibyte);
    return Math.ceil(promised / mebibyte) + monitor.diskMb({ memoryMb: memory_mb });
  }

  /** Bytes that may still be written. */
  #toCome(one: OnDisk): number {
    return Math.max(0, this.#diskOf(one) * mebibyte - one.takenBytes);
  }

  #memoryOf(shape: Shape): number {
    return shape.memory_mb + this.#options.monitor.overheadMb({ memoryMb: shape.memory_mb });
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
